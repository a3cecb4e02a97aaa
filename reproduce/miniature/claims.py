"""What is asked: the paper's claims (docs/method.md §5), the costs, and what goes beyond the paper.

All of it is fixed before a run is made: which models are compared, by what measure, and when a claim counts as
supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from epic_common.config import PAPER_NAMES

ABLATED = "meter"  # the baseline of Tables 4 and 5
BASELINES = {"meter": "METER", "vilt": "ViLT", "albef": "ALBEF", "xvlm": "X-VLM"}
VARIANTS = {
    **PAPER_NAMES,
    "vanilla_compute": "vanilla, EPIC's compute",
    "momentum": "EPIC, momentum saliency",
    "surprise": "EPIC, surprise",
    "frequency": "EPIC, word frequency",
}
WITH_IMAGE, TEXT_ONLY = "with_image", "text_only"  # the models of Fig. 2, not runs


@dataclass(frozen=True)
class Measure:
    """What is compared, in points of per cent; ``first`` less ``second`` is positive where the claim is right.

    Attributes:
        alike_within: of a claim that both are alike: the distance that still counts as alike.
    """

    name: str
    first: str = ""
    second: str = ""
    alike_within: float | None = None


RETRIEVAL = Measure("mean of TR R@1 and IR R@1, zero-shot, at the budget")
IMAGE_HELPS = Measure("masked-token accuracy at the last step", "with the image", "text alone")
TEXT_SUFFICES = Measure(
    "masked-token accuracy at the last step, as a share of that with the image", "text alone", "one half"
)
DROP_ALIKE = Measure(
    "relative drop of masked-token accuracy, mean over 10 to 100 % corrupted",
    *("with the image", "text alone"),
    alike_within=5.0,
)
REPLACED_FALLS = Measure("|T|/|M|", "first fifth of training", "last fifth")
WRONG_WORDS = Measure("area under the ROC curve of foils' tokens", "by D", "by chance, one half")
CAPTION_OVER_FOIL = Measure("how often the caption scores higher than its foil", "ITC head", "ITM head")


@dataclass(frozen=True)
class Printed:
    """Two rows of ``tables.json`` and the columns whose mean is their score: the nearest that the paper prints."""

    table: str
    row: Mapping[str, Any]
    reference: Mapping[str, Any]
    columns: tuple[str, ...] = ("f30k_zs_tr_r1", "f30k_zs_ir_r1")

    def difference(self, tables: Mapping[str, Any]) -> float:
        """Of the scores, in points."""
        found, reference = (
            next(each for each in tables[self.table] if wanted.items() <= each.items())
            for wanted in (self.row, self.reference)
        )
        return fmean(found[column] - reference[column] for column in self.columns)


@dataclass(frozen=True)
class Question:
    """One comparison, with one verdict.

    Attributes:
        statement: what a positive difference says.
        variant, reference: the runs that are compared, empty where runs of one variant are compared within.
        printed: rows of the paper's tables, or what its figure shows, in points.
    """

    statement: str
    measure: Measure = RETRIEVAL
    baseline: str = ABLATED
    variant: str = ""
    reference: str = ""
    printed: Printed | str | None = None


@dataclass(frozen=True)
class Claim:
    """A claim and the comparisons that test it.

    Attributes:
        name: on the command line and in the report.
        source: where the paper has it.
        says: what the paper says; of what it leaves open, why it is asked.
        figure: "2a" or "2b" where ``reproduce figure`` measures it, without runs of the miniature.
    """

    name: str
    title: str
    source: str
    says: str
    questions: tuple[Question, ...]
    figure: str = ""

    @property
    def runs(self) -> list[tuple[str, str]]:
        """The baseline and the variant of every run that it needs, without seeds; none for Fig. 2."""
        named = [(each.baseline, name) for each in self.questions for name in (each.reference, each.variant) if name]
        return list(dict.fromkeys(named))


def _ablation(statement: str, variant: str, reference: str, table: str) -> Question:
    names = PAPER_NAMES | ({"vanilla": "vanilla METER"} if table == "table4" else {"epic": "LM (fine-tune)"})
    printed = Printed(table, {"variant": names[variant]}, {"variant": names[reference]})
    return Question(statement, variant=variant, reference=reference, printed=printed)


def _gain(baseline: str) -> Question:
    row = {"baseline": BASELINES[baseline], "data": "4M+" if baseline == "xvlm" else "4M"}
    printed = Printed("table1", {**row, "epic": True}, {**row, "epic": False})
    statement = f"{BASELINES[baseline]}: EPIC beats vanilla"
    return Question(statement, baseline=baseline, variant="epic", reference="vanilla", printed=printed)


def _equal_compute(baseline: str) -> Question:
    return Question(
        f"{BASELINES[baseline]}: EPIC beats vanilla of the same FLOPs",
        baseline=baseline,
        variant="epic",
        reference="vanilla_compute",
    )


def _beyond(name: str, title: str, says: str) -> Claim:
    questions = tuple(
        Question(f"{VARIANTS[name]} beats {VARIANTS[other]}", variant=name, reference=other)
        for other in ("itc_lm", "epic")
    )
    return Claim(name, title, "beyond the paper", says, questions)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "Most masked tokens are found without the image",
        "Fig. 2a",
        "Masked-token accuracy is about 80 % with the image and about 70 % with the text alone.",
        (
            Question("the image helps", IMAGE_HELPS, printed="about +10"),
            Question("text alone finds most of what is found with the image", TEXT_SUFFICES, printed="about +37"),
        ),
        figure="2a",
    ),
    Claim(
        "C2",
        "Both lose accuracy alike where unmasked tokens are corrupted",
        "Fig. 2b",
        "The two curves overlap.",
        (Question("both lose alike", DROP_ALIKE, printed="about 0"),),
        figure="2b",
    ),
    Claim(
        "C3",
        "Consistency helps already with random replacements",
        "Table 4",
        "ITC with replacements drawn uniformly beats the vanilla model.",
        (_ablation("ITC (rand.) beats vanilla", "itc_rand", "vanilla", "table4"),),
    ),
    Claim(
        "C4",
        "A language model's replacements are better than random ones",
        "Table 4",
        "Replacements that fit the sentence are harder to tell without the image.",
        (_ablation("ITC+LM beats ITC (rand.)", "itc_lm", "itc_rand", "table4"),),
    ),
    Claim(
        "C5",
        "Masking by saliency is better than uniform masking",
        "Table 4",
        "Masking the words that hang on the image beats masking any.",
        (_ablation("EPIC beats ITC+LM", "epic", "itc_lm", "table4"),),
    ),
    Claim(
        "C6",
        "Generators that see the image are worse",
        "Table 5",
        "Both generators that see the image, LM (cond.) and VLM (SAS), are worse than the language model.",
        (
            _ablation("EPIC beats LM (cond.)", "epic", "lm_cond", "table5"),
            _ablation("EPIC beats VLM (SAS)", "epic", "vlm_sas", "table5"),
        ),
    ),
    Claim(
        "C7",
        "A fixed language model is worse than one that is fine-tuned",
        "Table 5",
        "The language model as released is worse than the one that is fine-tuned during pre-training.",
        (_ablation("EPIC beats LM (fixed)", "epic", "lm_fixed", "table5"),),
    ),
    Claim(
        "C8",
        "Fine-tuning during pre-training beats fitting before, as a curriculum",
        "Table 5",
        "Replacements get harder to find while the language model is fine-tuned: |T|/|M| falls during training.",
        (
            _ablation("EPIC beats LM (trained)", "epic", "lm_trained", "table5"),
            Question("|T|/|M| falls during EPIC's training", REPLACED_FALLS, variant="epic"),
        ),
    ),
    Claim(
        "C9",
        "EPIC beats vanilla on all four baselines",
        "Table 1",
        "Each baseline is better with EPIC than without, at the same number of steps.",
        tuple(map(_gain, BASELINES)),
    ),
    Claim(
        "compute",
        "EPIC against vanilla at equal compute",
        "beyond the paper",
        "The paper compares equal steps, of which one with EPIC costs more. Here vanilla has as many more steps as "
        "EPIC's additional FLOPs pay for, with a schedule of that length.",
        tuple(map(_equal_compute, BASELINES)),
    ),
    _beyond(
        "momentum",
        "Saliency of the student's own running average",
        "It needs no pre-trained teacher.",
    ),
    _beyond(
        "surprise",
        "Masking by the surprise of the language model",
        "It needs no teacher and no pass over the image: a token is masked more often where the language model, which "
        "does not see the image, expects it less.",
    ),
    _beyond(
        "frequency",
        "Masking by word frequency",
        "It needs no teacher and no pass over the image: rare words of the corpus are masked more often.",
    ),
    Claim(
        "foils",
        "Wrong words found without training for it",
        "beyond the paper",
        "Of each caption a word that only the image tells is made false. The ITC head was trained on what the language "
        "model replaces, no head on such foils: it says of each token how consistent it is (D of Eq. 1), and the ITM "
        "head of the same model whether the sentence is a match.",
        (
            Question("the ITC head finds the wrong word", WRONG_WORDS, variant="epic"),
            Question(
                "the ITC head knows captions from foils better than the ITM head", CAPTION_OVER_FOIL, variant="epic"
            ),
        ),
    ),
)
