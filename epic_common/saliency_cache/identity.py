"""What identifies a pair in a saliency cache, and what its fingerprints are taken of."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

FORMAT = 1
# high and low are the halves of a key as signed integers; high is ascending, low within equal high.
INDEX = {"high": torch.int64, "low": torch.int64, "starts": torch.int64, "lengths": torch.int32}


# Of each pair, in caches of today; older ones have none.
SUMS = "sums"


class SaliencyCacheError(ValueError):
    """A cache that is missing, incomplete, damaged, or of other inputs; the message says which and what to do."""


class Pairs(NamedTuple):
    """What identifies the pairs of a batch: their keys, text masks (B, n), 1 = token, and names for a message."""

    keys: list[bytes]
    mask: Tensor
    names: list[str]


def pair_key(file_digest: str, caption: str) -> bytes:
    """128 bits for a pair: ``file_digest``, hexadecimal, of the image file's bytes, and the caption as written.

    A changed image or caption has another key, so it can never get the scores of the old one.
    """
    return hashlib.blake2b(bytes.fromhex(file_digest) + caption.encode(), digest_size=16).digest()


def halves(key: bytes) -> tuple[int, int]:
    """A key as two signed 64-bit integers, high and low."""
    return struct.unpack(">qq", key)


def pair_sum(high: int, low: int, scores: Tensor) -> int:
    """CRC-32 of a pair's key and scores (float32), as a signed number: changed bytes on the disk give another."""
    content = struct.pack(">qq", high, low) + scores.contiguous().numpy().tobytes()
    return struct.unpack("<i", struct.pack("<I", zlib.crc32(content)))[0]


def fingerprint(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides token ids: vocabulary, merges, normalisation, special tokens.

    The length that a text was last cut or padded to is state of a fast tokenizer, too, and is left out.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    return fingerprint({name: part for name, part in parts.items() if name not in ("truncation", "padding")})
