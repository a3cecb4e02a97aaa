"""Wrong words in captions, found by checkpoints that were not trained for it: ``python -m reproduce foils``."""
