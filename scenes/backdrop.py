"""Grounds and skies. A backdrop depends on ground, time, look and size alone, and is drawn once per process."""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image, ImageDraw

from scenes.pen import RGB, shade

SKY: dict[str, tuple[RGB, RGB]] = {
    "day": ((116, 186, 238), (216, 238, 250)),
    "sunset": ((232, 98, 84), (255, 206, 138)),
    "night": ((16, 22, 58), (52, 62, 116)),
}
SOIL: dict[str, tuple[RGB, RGB]] = {
    "grass": ((150, 204, 96), (112, 176, 72)),
    "sand": ((246, 224, 170), (230, 198, 132)),
    "snow": ((240, 246, 252), (214, 226, 242)),
    "water": ((120, 196, 226), (48, 140, 190)),
    "road": ((150, 204, 96), (112, 176, 72)),
    "table": ((206, 158, 104), (178, 126, 76)),
}
WALLS: tuple[RGB, ...] = (
    (236, 226, 204), (208, 224, 226), (232, 212, 214), (218, 226, 204), (224, 216, 234), (240, 228, 190),
)  # fmt: skip
GLOW: dict[str, tuple[RGB, float]] = {  # what the light of the hour mixes into the ground, and how much of it
    "day": ((255, 255, 255), 0.0),
    "sunset": ((206, 96, 90), 0.16),
    "night": ((22, 30, 82), 0.5),
}


def gradient(size: tuple[int, int], top: RGB, bottom: RGB) -> Image.Image:
    """Return a vertical blend of two colours."""
    column = Image.new("RGB", (1, 2))
    column.putpixel((0, 0), top)
    column.putpixel((0, 1), bottom)
    return column.resize(size, Image.Resampling.BILINEAR)


@lru_cache(maxsize=128)
def backdrop(ground: str, time: str, look: int, side: int) -> Image.Image:
    """Draw the image without its objects: RGB, `side` x `side` pixels. Copy it before you draw on it."""
    rng = random.Random(f"backdrop/{ground}/{time}/{look}")
    horizon = round(side * rng.uniform(0.48, 0.56))
    image = Image.new("RGB", (side, side))
    if ground == "table":
        _wall(image, horizon, look)
    else:
        _sky(image, horizon, time, rng)
    soil = gradient((side, side - horizon), *SOIL[ground])
    _TEXTURES[ground](soil, rng)
    light, strength = GLOW[time]
    image.paste(Image.blend(soil, Image.new("RGB", soil.size, light), strength), (0, horizon))
    return image


def _sky(image: Image.Image, horizon: int, time: str, rng: random.Random) -> None:
    side = image.width
    image.paste(gradient((side, horizon + 1), *SKY[time]), (0, 0))
    draw = ImageDraw.Draw(image)
    x, y, r = side * rng.choice((0.12, 0.88)), side * rng.uniform(0.10, 0.16), side * 0.07
    if time == "day":
        for _ in range(rng.randint(1, 3)):
            _cloud(draw, rng.uniform(0.05, 0.95) * side, rng.uniform(0.08, 0.36) * side, side * rng.uniform(0.04, 0.07))
    elif time == "sunset":
        y = horizon - side * 0.01
        draw.ellipse((x - 2 * r, y - 2 * r, x + 2 * r, y + 2 * r), fill=(255, 196, 110))
        draw.ellipse((x - 1.4 * r, y - 1.4 * r, x + 1.4 * r, y + 1.4 * r), fill=(255, 240, 190))
    else:
        for _ in range(26):
            sx, sy = rng.random() * side, rng.random() * horizon
            draw.ellipse((sx, sy, sx + side / 90, sy + side / 90), fill=(206, 212, 240))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(246, 240, 206))
        draw.ellipse((x - 0.5 * r, y - 1.15 * r, x + 1.2 * r, y + 0.7 * r), fill=shade(SKY["night"][0], 1.06))
    _hills(draw, side, horizon, time, rng)


def _cloud(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    for dx, dy, scale in ((-1.2, 0.2, 0.8), (0, 0, 1.1), (1.2, 0.25, 0.75)):
        cx, cy, cr = x + dx * r, y + dy * r, r * scale
        draw.ellipse((cx - cr, cy - 0.7 * cr, cx + cr, cy + 0.7 * cr), fill=(246, 250, 254))


def _hills(draw: ImageDraw.ImageDraw, side: int, horizon: int, time: str, rng: random.Random) -> None:
    colour = {"day": (150, 190, 190), "sunset": (196, 116, 104), "night": (34, 42, 84)}[time]
    for _ in range(3):
        x, width, height = rng.random() * side, side * rng.uniform(0.25, 0.45), side * rng.uniform(0.04, 0.09)
        draw.ellipse((x - width, horizon - height, x + width, horizon + height), fill=colour)


def _wall(image: Image.Image, horizon: int, look: int) -> None:
    wall = WALLS[look % len(WALLS)]
    image.paste(wall, (0, 0, *image.size))
    draw = ImageDraw.Draw(image)
    step = image.width // 9
    for x in range(step // 2, image.width, step):
        draw.line((x, 0, x, horizon), fill=shade(wall, 0.95), width=max(2, image.width // 56))


def _grass(soil: Image.Image, rng: random.Random) -> None:
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    for _ in range(70):
        x, y = rng.random() * w, rng.random() * h
        lean, tall = rng.uniform(-0.01, 0.01) * w, rng.uniform(0.015, 0.035) * w
        draw.line(
            (x, y, x + lean, y - tall), fill=shade(SOIL["grass"][1], rng.uniform(0.8, 0.95)), width=max(1, w // 130)
        )


def _sand(soil: Image.Image, rng: random.Random) -> None:
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    draw.rectangle((0, 0, w, h * 0.14), fill=(96, 178, 214))
    draw.rectangle((0, h * 0.14, w, h * 0.18), fill=(246, 250, 250))
    for _ in range(110):
        x, y = rng.random() * w, rng.uniform(0.22, 1) * h
        draw.ellipse((x, y, x + w / 130, y + w / 130), fill=shade(SOIL["sand"][1], rng.choice((0.88, 1.3))))


def _snow(soil: Image.Image, rng: random.Random) -> None:
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    for _ in range(5):
        x, y, r = rng.random() * w, rng.uniform(0.1, 1) * h, rng.uniform(0.15, 0.4) * w
        draw.arc((x - r, y, x + r, y + r * 0.5), 200, 340, fill=(196, 212, 234), width=max(2, w // 110))


def _water(soil: Image.Image, rng: random.Random) -> None:
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    for _ in range(16):
        x, y, r = rng.random() * w, rng.uniform(0.03, 1) * h, rng.uniform(0.04, 0.08) * w
        for i in range(2):
            left = x + i * r * 1.6
            draw.arc(
                (left - r, y - r * 0.4, left + r, y + r * 0.4), 20, 160, fill=(196, 232, 244), width=max(2, w // 110)
            )


def _road(soil: Image.Image, rng: random.Random) -> None:
    _grass(soil, rng)
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    draw.rectangle((0, h * 0.22, w, h), fill=(126, 126, 134))
    draw.line((0, h * 0.22, w, h * 0.22), fill=(206, 206, 206), width=max(2, w // 70))
    start = rng.random() * w * 0.25
    for i in range(-1, 5):
        x = start + i * w * 0.25
        draw.rectangle((x, h * 0.80, x + w * 0.14, h * 0.85), fill=(244, 240, 220))


def _table(soil: Image.Image, rng: random.Random) -> None:
    draw, (w, h) = ImageDraw.Draw(soil), soil.size
    draw.rectangle((0, 0, w, h * 0.03), fill=(136, 92, 54))
    for i in range(1, 5):
        y = h * (i / 5) ** 1.2
        draw.line((0, y, w, y), fill=(158, 110, 66), width=max(2, w // 110))
        x = rng.random() * w
        draw.line((x, y, x, y + h * 0.22), fill=(158, 110, 66), width=max(2, w // 110))


_TEXTURES = {"grass": _grass, "sand": _sand, "snow": _snow, "water": _water, "road": _road, "table": _table}
