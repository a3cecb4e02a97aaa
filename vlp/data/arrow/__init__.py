"""Arrow tables, the format of METER and ViLT: written from raw downloads (``python -m vlp.data.arrow``), and read."""
