"""Fit a small masked language model to captions, or fit a released one further; LM (trained) of Table 5 needs one.

python -m epic_common.fit_lm --captions captions.txt --output runs/lm                            # from scratch
python -m epic_common.fit_lm --captions captions.txt --output runs/lm --init roberta-base --steps 20000
"""

from epic_common.language_models.fit import main
from epic_common.safe_output import make_output_safe

if __name__ == "__main__":
    make_output_safe()
    main()
