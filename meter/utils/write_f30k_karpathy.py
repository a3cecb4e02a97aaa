"""Flickr30k, Karpathy's splits -> Arrow tables, as `python -m vlp.data.arrow f30k` does; the official module name."""

from functools import partial

from vlp.data.arrow import make_arrow as _make_arrow

make_arrow = partial(_make_arrow, "f30k")
