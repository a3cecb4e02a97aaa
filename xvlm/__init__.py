"""X-VLM: its model, its data and its scripts."""
