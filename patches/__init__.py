"""EPIC as a patch of each baseline: ``<baseline>.patch`` is derived from the baseline's marked lines and EPIC files."""
