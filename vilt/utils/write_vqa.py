"""VQAv2 -> Arrow tables, as `python -m vlp.data.arrow vqa` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["vqa"]
