"""JSON lists, the format of ALBEF and X-VLM."""
