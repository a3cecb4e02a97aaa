"""Visual Genome -> Arrow tables, as `python -m vlp.data.arrow vg` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["vg"]
