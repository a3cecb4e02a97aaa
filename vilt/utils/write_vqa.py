"""VQAv2 -> Arrow tables, as `python -m vlp.data.arrow vqa` does; the official module name."""

from vlp.data.arrow import CONVERTERS

make_arrow = CONVERTERS["vqa"]
