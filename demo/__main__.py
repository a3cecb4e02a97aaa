"""``python -m demo``: see :mod:`demo.demo_run`."""

from __future__ import annotations

import sys

from vlp.progress import import_slowly
from vlp.safe_output import make_output_safe

if __name__ == "__main__":
    make_output_safe()
    import_slowly("demo.demo_run").main(sys.argv[1:])
