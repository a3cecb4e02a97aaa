"""METER, written to the facts of the official project, with EPIC patched in."""
