"""Weights and tokenizers by their name on the Hugging Face hub, and what is said where they cannot be had.

Without a network the libraries try every file of a name six times, for minutes. Here one short attempt decides for the
whole process: if it fails, they are told to look into the local cache alone.
"""

from __future__ import annotations

import functools
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub

SECONDS = 5.0  # for one attempt to reach the hub


class HubError(OSError):
    """A name that is neither here nor on the hub; the message says what to give instead."""


def is_path(name: str | Path) -> bool:
    """Whether a name stands for a file or folder: it is there, or is written as one."""
    return Path(name).exists() or str(name).startswith(("/", ".", "~"))


@contextmanager
def hub_access(what: str, name: str, instead: str) -> Iterator[None]:
    """For a block that loads ``name`` by a library that may ask the hub.

    Args:
        what: what ``name`` stands for, such as "tokenizer".
        instead: what a user without a network can give, such as "give tokenizer=FOLDER".

    Raises:
        HubError: the block failed for want of its files, and ``name`` is no path: then the library's error stays.
    """
    if is_path(name):
        yield
        return
    if not huggingface_hub.constants.HF_HUB_OFFLINE and not is_reachable():
        huggingface_hub.constants.HF_HUB_OFFLINE = True  # the libraries read it at every call
    try:
        yield
    except (OSError, ValueError) as error:
        # A ValueError says what is wrong with what was found, unless a library's OSError is behind it.
        if isinstance(error, ValueError) and not isinstance(error.__cause__, OSError):
            raise
        raise HubError(
            f"{what} {name!r}: neither a local path nor in the local cache, and {_why()}; {instead}"
        ) from error


def _why() -> str:
    """Why the hub did not give a name."""
    if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE"):
        return "HF_HUB_OFFLINE forbids to ask the Hugging Face hub"
    endpoint = huggingface_hub.constants.ENDPOINT
    return f"{endpoint} {'cannot be reached' if huggingface_hub.constants.HF_HUB_OFFLINE else 'does not have it'}"


@functools.cache
def is_reachable() -> bool:
    """Whether the hub answers at all; asked once in a process."""
    answers: list[bool] = []
    # A thread: no time limit holds for the resolution of a name.
    attempt = threading.Thread(target=lambda: answers.append(_answers()), daemon=True)
    attempt.start()
    attempt.join(SECONDS)
    return answers == [True]


def _answers() -> bool:
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # the libraries may know other certificates
    except OSError:
        return False
