"""From a scene to its image."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw

from scenes.backdrop import backdrop
from scenes.model import Box, Scene
from scenes.pen import Pen
from scenes.shapes import SHAPES

OVERSAMPLING = 3  # drawn that much larger and averaged down: smooth edges


def render(scene: Scene, image_size: int) -> Image.Image:
    """Draw the scene: RGB, `image_size` x `image_size` pixels. Equal scenes give equal pixels."""
    side = image_size * OVERSAMPLING
    canvas = backdrop(scene.ground, scene.time, scene.look, side).copy()
    for thing in sorted(scene.things, key=lambda thing: thing.box.y1):
        for box in thing.boxes:
            x0, y0, x1, y1 = pixel_box(box, side)
            if not thing.in_sky and thing.place != "top":
                _shadow(canvas, (x0, y0, x1, y1))
            tile = sprite(thing.kind, thing.colour, thing.pattern, x1 - x0, y1 - y0, side)
            canvas.paste(tile, (x0, y0), tile)
    return canvas.reduce(OVERSAMPLING)


def pixel_box(box: Box, side: int) -> tuple[int, int, int, int]:
    """Round a box to pixels of an image of `side` pixels."""
    return round(box.x0 * side), round(box.y0 * side), round(box.x1 * side), round(box.y1 * side)


@lru_cache(maxsize=512)
def sprite(kind: str, colour: str, pattern: str, width: int, height: int, side: int) -> Image.Image:
    """Draw one object alone (RGBA); `side` of the whole image fixes the width of lines and stripes."""
    pen = Pen(width, height, colour, pattern, line=max(2, round(side / 100)), period=round(side * 0.075))
    SHAPES[kind](pen)
    return pen.tile


def _shadow(canvas: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Darken the ground under an object."""
    x0, _, x1, y1 = box
    height = max(2, (x1 - x0) // 8)
    mask = Image.new("L", (x1 - x0, height))
    ImageDraw.Draw(mask).ellipse((0, 0, x1 - x0 - 1, height - 1), fill=70)
    canvas.paste((20, 24, 40), (x0, y1 - height // 2), mask)
