"""The verdict table, which the report and the README share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from reproduce.experiments import printed_tables
from reproduce.miniature.claims import Claim, Printed, Question
from reproduce.miniature.evidence import Answer, Paired, Values
from reproduce.miniature.page import Table
from reproduce.report.tables import signed

HEAD = ("claim", "what it says here", "verdict", "in the paper", "here, with the 95 % interval", "pairs")


def verdicts(answers: Sequence[tuple[Claim, Sequence[Answer]]]) -> Table:
    """A line for each question, in points of per cent."""
    lines = [
        (
            *(claim.name, each.question.statement, each.verdict),
            *(in_paper(each.question), difference(each.measured), str(len(each.measured.differences))),
        )
        for claim, given in answers
        for each in given
    ]
    return Table(HEAD, lines, names=3)


def in_paper(question: Question) -> str:
    """The nearest difference that the paper prints, to the halves of its last digit; – where it prints none."""
    printed = question.printed
    if isinstance(printed, Printed):
        return f"{printed.difference(printed_tables()):+.2f}".replace("-", "−")
    return printed or "–"


def difference(measured: Paired) -> str:
    """+3.1 [1.2, 5.0]; of one pair without the interval, of none empty."""
    if measured.interval is None:
        return "".join(map(signed, measured.differences.values()))
    mean, low, high = map(signed, (measured.interval.mean, measured.interval.low, measured.interval.high))
    return f"{mean} [{low}, {high}]"


def mean(values: Values) -> str:
    """Over seeds; empty if there are none."""
    return f"{fmean(values.values()):.1f}" if values else ""
