"""Readers of the official raw layouts."""
