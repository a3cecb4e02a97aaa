"""JSON lines: rows of image-text pairs and of image regions, read as endless streams."""
