"""One thread and a fixed seed, as for the EPIC tests: the models here are as small."""

from tests.unit.epic.conftest import one_thread, seeded

__all__ = ["one_thread", "seeded"]
