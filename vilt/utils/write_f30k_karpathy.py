"""Flickr30k, Karpathy's splits -> Arrow tables, as `python -m vlp.data.arrow f30k` does; the official module name."""

from vlp.data.arrow.convert import CONVERTERS

make_arrow = CONVERTERS["f30k"]
