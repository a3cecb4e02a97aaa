"""VQAv2 -> Arrow tables, under the official module name; the same as `python -m vlp.data.arrow vqa`."""

from functools import partial

from vlp.data.arrow import make_arrow as _make_arrow

make_arrow = partial(_make_arrow, "vqa")
