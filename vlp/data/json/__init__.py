"""JSON lists, the format of ALBEF and X-VLM, made from the records of ``vlp.data.raw``."""
