"""ALBEF, with EPIC in marked lines."""
