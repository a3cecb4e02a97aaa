"""EPIC on top of vlp: what the baselines' EPIC parts share."""
