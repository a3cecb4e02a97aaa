"""SBU -> Arrow tables, as `python -m vlp.data.arrow sbu` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["sbu"]
