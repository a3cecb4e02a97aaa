"""SNLI-VE -> Arrow tables, as `python -m vlp.data.arrow snli` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["snli"]
