"""The official names of image transforms, and what a configuration's check needs to know of them.

Source: docs/official/meter.md §3.7.
"""

KEYS: tuple[str, ...] = tuple(
    key + suffix for key in ("clip", "imagenet", "vit", "pixelbert") for suffix in ("", "_randaug")
)
SQUARE = tuple(key for key in KEYS if not key.startswith("pixelbert"))
PIXELBERT = ("pixelbert", "pixelbert_randaug")  # which keep the shape of an image; the others make squares
PIXELBERT_STEP = 32  # sides after the pixelbert resize are multiples of it
