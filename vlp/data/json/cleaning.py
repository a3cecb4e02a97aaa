"""How the official ALBEF and X-VLM clean their texts.

Source: docs/official/albef.md §3.2; docs/official/xvlm.md §3.3.
"""

from __future__ import annotations

import re

_DELETED = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")
_SPACES = re.compile(r"\s{2,}")


def pre_caption(caption: str, max_words: int = 30) -> str:
    """A caption as the official code cleans it, its first ``max_words`` words."""
    cleaned = caption.lower().translate(_DELETED).replace("<person>", "person")
    cleaned = _SPACES.sub(" ", cleaned).rstrip("\n").strip(" ")
    return " ".join(cleaned.split(" ")[:max_words])


def pre_question(question: str, max_words: int = 30) -> str:
    """A question as the official code cleans it: inner and leading spaces stay, and the words between them count."""
    return " ".join(question.lower().translate(_DELETED).rstrip(" ").split(" ")[:max_words])
