"""Conceptual Captions 12M -> Arrow tables, as `python -m vlp.data.arrow cc12m` does; the official module name."""

from functools import partial

from vlp.data.arrow import make_arrow as _make_arrow

make_arrow = partial(_make_arrow, "cc12m")
