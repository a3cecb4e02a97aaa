"""What is raised for a weights file that does not serve."""

from __future__ import annotations


class WeightsError(RuntimeError):
    """A weights file that is missing, unreadable, damaged, unsafe or of another model; the message says what to do."""
