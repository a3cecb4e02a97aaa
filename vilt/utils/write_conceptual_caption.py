"""Conceptual Captions 3M -> Arrow tables, as `python -m vlp.data.arrow gcc` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["gcc"]
