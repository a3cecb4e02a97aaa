"""ALBEF, written to the facts of the official project."""
