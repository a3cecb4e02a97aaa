"""Names on the Hugging Face hub where there is no network, or one that swallows what is sent: one line, soon."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from vlp import hub
from vlp.hub import HubError, hub_access, is_reachable

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    is_reachable.cache_clear()
    yield
    is_reachable.cache_clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


class NotFound(http.server.BaseHTTPRequestHandler):
    """A hub that is there and has nothing."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def answering() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def test_a_closed_port_a_name_that_is_not_resolved_and_silence_are_no_hub(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    for endpoint in (f"http://127.0.0.1:{free_port()}", "https://hub.invalid", f"http://127.0.0.1:{silent}"):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        is_reachable.cache_clear()
        began = time.monotonic()
        assert not is_reachable()
        assert time.monotonic() - began < 2


def test_a_hub_that_answers_anything_is_one(answering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{answering}")
    assert is_reachable()
    message = rf"^thing 'a/b': neither .*, and http://127.0.0.1:{answering} does not have it; give x$"
    with pytest.raises(HubError, match=message), hub_access("thing", "a/b", "give x"):
        raise OSError("404")


def test_only_what_the_hub_should_have_given_is_told_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match=r"^broken$"), hub_access("thing", str(tmp_path), "give x"):
        raise OSError("broken")
    assert not huggingface_hub.constants.HF_HUB_OFFLINE  # a path asks nobody
    with pytest.raises(ValueError, match=r"^another kind$"), hub_access("thing", "a/b", "give x"):
        raise ValueError("another kind")
    assert huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_tokenizer_without_a_network_is_one_line_within_seconds(tmp_path: Path) -> None:
    """In a process of its own, whose libraries have read their environment before: imports included."""
    script = "from vlp.data.tokenizers import load_tokenizer\nload_tokenizer('roberta-base')"
    environment = {
        **{name: value for name, value in os.environ.items() if "OFFLINE" not in name},
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "PYTHONPATH": str(ROOT),
    }
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert time.monotonic() - began < 30
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        "vlp.hub.HubError: tokenizer 'roberta-base': neither a local path nor in the local cache, and "
    )
    assert line.endswith(" cannot be reached; give tokenizer=FOLDER, saved on a connected machine with save_pretrained")
    assert "Retrying" not in done.stderr
