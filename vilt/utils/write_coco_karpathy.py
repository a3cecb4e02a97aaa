"""COCO with Karpathy's splits -> Arrow tables, as `python -m vlp.data.arrow coco` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["coco"]
