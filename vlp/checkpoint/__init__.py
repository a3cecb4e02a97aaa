"""Look into checkpoints and convert them: ``python -m vlp.checkpoint inspect|convert``."""
