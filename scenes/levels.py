"""How difficult scenes are: how much is in a picture, what occurs at all, and what captions leave unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAID = {"colour": 0.92, "size": 0.6, "pattern": 0.9, "time": 0.85, "place": 0.85, "relation": 0.8}


@dataclass(frozen=True)
class Level:
    """Strings list `value weight` pairs.

    Attributes:
        things: kinds of objects in a scene, 1 to 3.
        looks: variants of each backdrop.
        scale: of the size of objects.
        said: how often a caption says what it could leave out.
    """

    things: str = "1 1 2 7 3 2"
    grounds: str = "grass 5 sand 4 snow 4 water 5 road 4 table 4"
    times: str = "day 5 sunset 2 night 2"
    looks: int = 6
    scale: float = 1.0
    said: Mapping[str, float] = field(default_factory=lambda: SAID)


FULL = Level()
# Large things and captions that say all that they can: what a small model learns in minutes.
SINGLE = Level("1 1", looks=1, scale=1.6, said=dict.fromkeys(SAID, 1.0))
PAIR = Level("2 1", looks=1, scale=1.4, said=dict.fromkeys(SAID, 1.0))  # of which there are many more
LEVELS = {"full": FULL, "single": SINGLE, "pair": PAIR}
