"""SBU -> Arrow tables, as `python -m vlp.data.arrow sbu` does; the official module name."""

from functools import partial

from vlp.data.arrow import make_arrow as _make_arrow

make_arrow = partial(_make_arrow, "sbu")
