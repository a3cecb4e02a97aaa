"""Raw downloads -> Arrow tables for METER and ViLT, and the command ``python -m vlp.data.arrow``."""

from vlp.data.arrow.convert import CONVERTERS, convert, make_arrow

__all__ = ["CONVERTERS", "convert", "make_arrow"]
