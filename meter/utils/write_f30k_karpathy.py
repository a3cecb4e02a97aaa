"""Flickr30k with Karpathy's splits -> Arrow tables, under the official module name; the same as `python -m vlp.data.arrow f30k`."""

from functools import partial

from vlp.data.arrow import make_arrow as _make_arrow

make_arrow = partial(_make_arrow, "f30k")
