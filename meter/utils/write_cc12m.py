"""Conceptual Captions 12M -> Arrow tables, as `python -m vlp.data.arrow cc12m` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["cc12m"]
