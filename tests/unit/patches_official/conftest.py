"""The support files import each other as they do in a checkout: from its root, which is on the path."""

import sys
from pathlib import Path

from tests.unit.epic.conftest import one_thread, seeded

SUPPORT = Path(__file__).parents[3] / "patches" / "official" / "support"
if str(SUPPORT) not in sys.path:
    sys.path.insert(0, str(SUPPORT))

__all__ = ["one_thread", "seeded"]
