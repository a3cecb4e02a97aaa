"""Fit a masked language model to a caption file, before pre-training. Command: ``python -m epic_common.fit_lm``.

With ``--init`` this is the "LM (trained)" of Table 5. Without, it trains a tokenizer and a small masked language model,
which stand in for the released one where none can be downloaded: byte-level BPE and RoBERTa, METER's, or with
``--family bert`` WordPiece and BERT, ViLT's. The folder loads with ``AutoTokenizer``, ``AutoModel`` and
``AutoModelForMaskedLM``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import transformers
from annotated_types import Ge, Lt
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from epic_common.config import EpicConfig
from epic_common.language_models.alone import alone
from epic_common.language_models.hub import load_pair, write_sums
from epic_common.language_models.logits import masked_logits, vocabulary_head
from epic_common.language_models.progress import steps_with_time_left
from epic_common.language_models.small import FAMILIES
from epic_common.masking import mask_tokens, maskable_positions, masked_places
from epic_common.strict import STRICT, Amount, OpenShare, Positive, in_words
from epic_common.teacher import file_sha256
from epic_common.vocabulary import Vocabulary

_SUMMARY = "fit_lm.json"
# The masking rate of BERT and RoBERTa, for models that stand in for the released ones.
RELEASED_RATE = 0.15
# batches that are drawn together and then sorted by length
_POOL = 16


@dataclass(frozen=True, config=STRICT)
class FitSettings:
    """How :func:`fit_language_model` trains; family and sizes count only where no ``init`` is given.

    Raises:
        ValueError: a value has the wrong type or range, or the width does not divide into the heads.
    """

    # name or folder of the masked LM to start from; "" = a new tokenizer and model of the sizes below
    init: str = ""
    family: str = "roberta"  # or "bert"
    steps: Positive = 1000
    batch_size: Positive = 64
    # peak of a linear warm-up over the first tenth and linear decay; 0 = 2e-3 from scratch, 5e-5 from ``init``
    learning_rate: Amount = 0.0
    weight_decay: Amount = 0.01
    # share of tokens that are predicted, by default as many as EPIC has f_L fill in; of those 80 % become the mask
    # token, 10 % a random one, 10 % stay
    mlm_prob: OpenShare = EpicConfig.mask_ratio
    max_length: Annotated[int, Ge(3)] = 50  # tokens, two special ones and a word at least
    layers: Positive = 2
    width: Positive = 128
    heads: Positive = 4
    vocab_size: Positive = 1000
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    # share of the captions that is kept out of the fit and measured at the end
    held_out: OpenShare = 0.02

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; choose {' or '.join(FAMILIES)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")


def fit_language_model(
    captions: str | Path, output: str | Path, settings: FitSettings | None = None, device: str | None = None
) -> dict[str, Any]:
    """Fit a masked language model to a text file of one caption a line and write a Hugging Face folder.

    Same file, settings and machine give the same weights. The caller's random state is left as it was.

    Args:
        captions: UTF-8 text, one caption a line; empty lines are skipped.
        output: the folder to make; it appears whole or not at all.
        device: torch device; None = the first GPU if there is one.

    Returns:
        The summary that is also written as ``fit_lm.json``: settings, counts, held-out loss (nats per masked token)
        and held-out masked-token accuracy.

    Raises:
        FileExistsError: ``output`` is already there and not empty, or another process is making it.
        ValueError: the file holds fewer than two captions.
    """
    settings, output = settings or FitSettings(), Path(output)
    lines = _read_captions(Path(captions))
    kept_out = max(1, round(settings.held_out * len(lines)))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # A small new model runs no faster on two threads, and far slower where the cores are shared.
    threads = torch.get_num_threads() if settings.init else 1
    with alone(output), torch.random.fork_rng(), _threads(threads):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise FileExistsError(f"{output} is already there: remove it or name another output folder")
        torch.manual_seed(settings.seed)
        model, tokenizer = _load_pair(settings) if settings.init else _new_pair(lines[kept_out:], settings)
        fit = _Fit(model, tokenizer, settings, where)
        fit.train(lines[kept_out:])
        summary = {
            "captions": str(captions),
            "captions_sha256": file_sha256(captions),
            "fitted_on": len(lines) - kept_out,
            "held_out_captions": kept_out,
            "settings": asdict(settings),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            **fit.measure(lines[:kept_out]),
        }
        _save(fit.model, tokenizer, summary, output)
    return summary


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read_captions(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it is to hold one caption a line")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from error
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise ValueError(f"{path} holds {len(lines)} captions; at least 2 are needed (one caption a line)")
    return lines


def _new_pair(lines: Sequence[str], settings: FitSettings) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    family, sizes = FAMILIES[settings.family], {"layers": settings.layers, "width": settings.width}
    tokenizer = family.train_tokenizer(lines, settings.vocab_size, settings.max_length)
    if len(tokenizer) > settings.vocab_size:
        raise ValueError(
            f"vocab_size is {settings.vocab_size}; special tokens and single characters alone are {len(tokenizer)}"
        )
    return family.new_model(tokenizer, settings.max_length, heads=settings.heads, **sizes), tokenizer


def _load_pair(settings: FitSettings) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_pair(settings.init)
    vocabulary_head(cast(nn.Module, model))
    if settings.max_length > tokenizer.model_max_length:
        raise ValueError(
            f"max_length is {settings.max_length}; {settings.init} takes at most {tokenizer.model_max_length} tokens"
        )
    return model, tokenizer


class _Fit:
    """Plain masked language modelling of one model on lists of captions."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: FitSettings, device: torch.device
    ) -> None:
        self.model, self.tokenizer, self.settings, self.device = model, tokenizer, settings, device
        cast(nn.Module, model).to(device)
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer)
        # All draws are made on the CPU, so that they do not depend on the device.
        self.rng = torch.Generator().manual_seed(settings.seed)

    def train(self, lines: Sequence[str]) -> None:
        settings = self.settings
        rate = settings.learning_rate or (5e-5 if settings.init else 2e-3)
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=settings.weight_decay)
        schedule = get_linear_schedule_with_warmup(optimiser, max(1, settings.steps // 10), settings.steps)
        self.model.train()
        with steps_with_time_left("fitting the language model", settings.steps) as progress:
            for batch in islice(self.batches(lines), settings.steps):
                logits, targets = self.predict(batch)
                loss = F.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                progress.advance(loss=loss.detach())

    def batches(self, lines: Sequence[str]) -> Iterator[list[str]]:
        """Endless random batches; captions of like length come together, so that little is computed on padding."""
        size = self.settings.batch_size
        while True:
            rows = torch.randint(len(lines), (_POOL * size,), generator=self.rng).tolist()
            pool = sorted((lines[row] for row in rows), key=len)
            for start in torch.randperm(_POOL, generator=self.rng).tolist():
                yield pool[start * size : (start + 1) * size]

    @torch.no_grad()
    def measure(self, lines: Sequence[str]) -> dict[str, float]:
        """Loss (nats) and accuracy per masked token on captions that were not fitted."""
        self.model.eval()
        total, right, count = 0.0, 0, 0
        for start in range(0, len(lines), self.settings.batch_size):
            logits, targets = self.predict(lines[start : start + self.settings.batch_size])
            total += float(F.cross_entropy(logits, targets, reduction="sum"))
            right += int((logits.argmax(-1) == targets).sum())
            count += len(targets)
        return {"held_out_loss": total / max(count, 1), "held_out_accuracy": right / max(count, 1)}

    def predict(self, lines: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Logits (K, V) and targets (K,) of freshly masked captions; K >= 1 unless they hold special tokens alone."""
        encoded = self.tokenizer(
            list(lines),
            padding=True,
            truncation=True,
            max_length=self.settings.max_length,
            split_special_tokens=True,  # "<mask>" in a caption is text, as the baselines read it
            return_tensors="pt",
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        selected = self._select(maskable_positions(ids, mask, torch.tensor(self.vocabulary.special_ids)))
        corrupted = self._corrupt(ids, selected).to(self.device)
        places, _ = masked_places(selected)
        logits = masked_logits(self.model, corrupted, mask.to(self.device), places.to(self.device))
        return logits, ids[selected].to(self.device)

    def _select(self, maskable: Tensor) -> Tensor:
        """Bernoulli(mlm_prob) over the maskable positions; the likeliest one if none came up."""
        draws = torch.rand(maskable.shape, generator=self.rng).masked_fill(~maskable, 2.0)
        selected = draws < self.settings.mlm_prob
        return selected if bool(selected.any()) else (draws == draws.min()) & maskable

    def _corrupt(self, ids: Tensor, selected: Tensor) -> Tensor:
        kind = torch.rand(ids.shape, generator=self.rng)
        random_ids = torch.randint(self.vocabulary.size, ids.shape, generator=self.rng)
        corrupted = mask_tokens(ids, selected & (kind < 0.8), self.vocabulary.mask_id)
        return torch.where(selected & (kind >= 0.9), random_ids, corrupted)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, summary: dict[str, Any], output: Path) -> None:
    """Write beside ``output`` and rename, so that a killed run leaves no half folder under that name."""
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        model.cpu().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # transformers 5 writes tokenizer.json alone; older tools look for vocab.json and merges.txt, or vocab.txt.
        tokenizer.backend_tokenizer.model.save(str(folder))
        (folder / _SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        write_sums(folder)
        folder.chmod(0o755)
        os.replace(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; every field of :class:`FitSettings` is an option."""
    parser = argparse.ArgumentParser(prog="python -m epic_common.fit_lm", description=__doc__.splitlines()[0])
    parser.add_argument("--captions", required=True, help="text file, one caption a line")
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--device", help="torch device (default: the first GPU if there is one)")
    for name, default in asdict(FitSettings()).items():
        said = f"default {default!r}"
        if name == "mlm_prob":
            said += f", the share that EPIC masks; BERT and RoBERTa were trained with {RELEASED_RATE}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=said)
    options = vars(parser.parse_args(arguments))
    captions, output, device = options.pop("captions"), options.pop("output"), options.pop("device")
    try:
        summary = fit_language_model(captions, output, FitSettings(**options), device)
    except ValidationError as error:
        parser.exit(2, f"{parser.prog}: {in_words(FitSettings, error)}\n")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(
        f"{output}: masked-token accuracy {summary['held_out_accuracy']:.1%}, loss {summary['held_out_loss']:.3f} "
        f"on {summary['held_out_captions']} captions that were not fitted, {summary['settings']['mlm_prob']:.0%} masked"
    )
