"""Raw downloads -> Arrow tables for METER and ViLT, and the command ``python -m vlp.data.arrow``."""

from vlp.data.arrow.convert import convert

__all__ = ["convert"]
