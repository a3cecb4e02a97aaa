"""Readers of the official raw layouts: a file for each layout, which yields the neutral records of ``records.py``."""
