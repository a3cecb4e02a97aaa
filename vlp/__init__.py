"""What the four baselines share that is not EPIC."""
