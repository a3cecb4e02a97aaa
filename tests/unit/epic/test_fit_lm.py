"""Fitting a language model to captions: what it learns, what it writes, and that it repeats itself."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer
from transformers.models.roberta.modeling_roberta import RobertaLMHead

from epic_common.language_models.fit import FitSettings, fit_language_model
from epic_common.language_models.load import load_language_model
from epic_common.language_models.small import FAMILIES, train_wordpiece
from epic_common.masking import maskable_positions
from epic_common.vocabulary import Vocabulary
from tests.unit.epic.small_captions import SMALL
from tests.unit.epic.tiny import config_of


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def fitted(family: str, captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "lm"
    fit_language_model(captions, folder, FitSettings(family=family, steps=250, learning_rate=5e-3, **SMALL))
    return folder


def test_the_folder_loads_with_every_auto_class(fitted: Path, family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(fitted)
    files = {path.name for path in fitted.iterdir()}
    vocabulary = {"roberta": {"vocab.json", "merges.txt"}, "bert": {"vocab.txt"}}[family]
    assert {"config.json", "model.safetensors", "fit_lm.json"} | vocabulary <= files
    assert fitted.stat().st_mode & 0o777 == 0o755  # other users can read it
    assert AutoConfig.from_pretrained(fitted).model_type == family
    ids = tokenizer("a black cat", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.cls_token_id and ids[0, -1] == tokenizer.sep_token_id
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "a black cat"
    assert AutoModel.from_pretrained(fitted)(ids).last_hidden_state.shape == (1, ids.shape[1], 32)
    assert AutoModelForMaskedLM.from_pretrained(fitted)(ids).logits.shape == (1, ids.shape[1], len(tokenizer))
    longest = tokenizer("word " * 99, truncation=True, return_tensors="pt")["input_ids"]
    assert AutoModel.from_pretrained(fitted)(longest).last_hidden_state.shape == (1, 16, 32)


def test_it_learns_what_goes_together(fitted: Path) -> None:
    summary = json.loads((fitted / "fit_lm.json").read_text(encoding="utf-8"))
    assert (summary["fitted_on"], summary["held_out_captions"]) == (134, 58)
    assert summary["held_out_loss"] < 1.5  # nats; 3 from word counts alone, 6 from guessing
    tokenizer, lm = AutoTokenizer.from_pretrained(fitted), AutoModelForMaskedLM.from_pretrained(fitted).eval()
    (dog,) = tokenizer(" dog", add_special_tokens=False)["input_ids"]
    chances = []
    for caption in ("a brown{} on the grass sleeps", "a white{} on a hill sleeps"):
        ids = tokenizer(caption.format(tokenizer.mask_token), return_tensors="pt")["input_ids"]
        chances.append(lm(ids).logits[ids == tokenizer.mask_token_id].softmax(-1)[0, dog].item())
    assert chances[0] > 5 * chances[1]


class Pass(NamedTuple):
    """One forward of the model while it is fitted or measured."""

    ids: Tensor  # (B, n), masked
    logits: Tensor  # (K, V), at the tokens that are predicted
    fitting: bool


@contextmanager
def passes() -> Iterator[list[Pass]]:
    """Every forward of a RoBERTa."""
    seen, ids = list[Pass](), Tensor()

    def watch(module: nn.Module, args: Any, output: Tensor) -> None:
        nonlocal ids
        if isinstance(module, nn.Embedding) and module.num_embeddings > 100:  # of words; there are fewer positions
            ids = args[0]
        elif isinstance(module, RobertaLMHead):
            seen.append(Pass(ids, output.detach(), torch.is_grad_enabled()))

    hook = register_module_forward_hook(watch)
    try:
        yield seen
    finally:
        hook.remove()


def test_a_tenth_of_the_predicted_tokens_stays_and_a_tenth_becomes_a_random_one(tmp_path: Path) -> None:
    caption = "a man on a horse by the sea looks at two small boats and a very large red kite in the cloudy sky"
    (tmp_path / "captions.txt").write_text(f"{caption}\n" * 300)
    sizes = FitSettings(**{**SMALL, "steps": 8, "batch_size": 64, "mlm_prob": 0.5, "max_length": 40, "held_out": 0.5})
    with passes() as seen:
        fit_language_model(tmp_path / "captions.txt", tmp_path / "lm", sizes)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    original = torch.tensor(tokenizer(caption)["input_ids"])
    ids, predicted = torch.cat([each.ids for each in seen]), sum(len(each.logits) for each in seen)
    words = len(ids) * (len(original) - 2)
    assert predicted / words == pytest.approx(0.5, abs=4 * 0.5 / words**0.5)
    masked = ids == tokenizer.mask_token_id
    changed = (ids != original) & ~masked
    assert not changed[:, [0, -1]].any() and not masked[:, [0, -1]].any()
    for share, count in ((0.8, masked.sum()), (0.1 * (1 - 1 / len(tokenizer)), changed.sum())):
        # a random token is the mask or the original now and then
        assert float(count) / predicted == pytest.approx(share, abs=4 * (share * (1 - share) / predicted) ** 0.5 + 1e-3)
    assert len(ids[changed].unique()) > 0.5 * len(tokenizer)


def test_mask_tokens_in_a_caption_are_text(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a <mask> on <mask> of the sea\n" * 40)
    with passes() as seen:
        settings = FitSettings(**{**SMALL, "steps": 1, "mlm_prob": 0.01, "max_length": 40})
        fit_language_model(tmp_path / "captions.txt", tmp_path / "lm", settings)
    mask_id = AutoTokenizer.from_pretrained(tmp_path / "lm").mask_token_id
    assert all(int((each.ids == mask_id).sum()) <= len(each.logits) for each in seen)


ALL = 1 - 1e-9  # as mlm_prob: every word is predicted


def test_the_held_out_captions_are_measured_and_never_fitted(tmp_path: Path) -> None:
    """They stand first in the file; here they are the short ones."""
    lines = [*["a zebra"] * 30, *["a cat and two dogs sleep on the old sofa"] * 70]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    with passes() as seen:
        settings = FitSettings(**{**SMALL, "steps": 8, "batch_size": 16, "mlm_prob": ALL})
        summary = fit_language_model(tmp_path / "captions.txt", tmp_path / "lm", settings)
    assert (summary["fitted_on"], summary["held_out_captions"]) == (70, 30)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    short, long = (tokenizer(line)["input_ids"] for line in (lines[0], lines[-1]))
    assert len(short) != len(long) <= 16 and len(tokenizer.tokenize(" zebra")) > 1 == len(tokenizer.tokenize(" sofa"))
    for fitting, count, length in ((True, 8 * 16, len(long)), (False, 30, len(short))):
        rows = [row for each in seen if each.fitting is fitting for row in each.ids.tolist()]
        assert len(rows) == count and {len(row) for row in rows} == {length}
    log_p = torch.cat([each.logits for each in seen if not each.fitting]).log_softmax(-1)
    words = torch.tensor(short[1:-1] * 30)
    assert summary["held_out_loss"] == pytest.approx(-float(log_p[range(len(words)), words].mean()), rel=1e-5)
    assert summary["held_out_accuracy"] == pytest.approx(float((log_p.argmax(-1) == words).float().mean()))


def test_the_fit_is_adamw_with_a_warm_up_and_clipped_gradients(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replayed from the masked sentences, with the rate of a model that is fitted further."""
    (tmp_path / "captions.txt").write_text("a black cat on a sofa sleeps\n" * 10)
    fit_language_model(captions, tmp_path / "start", FitSettings(steps=1, **SMALL))
    settings: dict[str, Any] = {
        "init": str(tmp_path / "start"),
        "steps": 20,
        "batch_size": 4,
        "max_length": 16,
        "mlm_prob": ALL,
    }
    drawn = []
    for seed in (1, 0):
        with passes() as seen:
            settings |= {"seed": seed, "weight_decay": 0.5}
            fit_language_model(tmp_path / "captions.txt", tmp_path / f"fitted-{seed}", FitSettings(**settings))
        drawn.append([each.ids for each in seen if each.fitting])
    assert not torch.equal(drawn[0][0], drawn[1][0])

    words = torch.tensor(AutoTokenizer.from_pretrained(tmp_path / "start")("a black cat on a sofa sleeps")["input_ids"])
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "start").train()
    optimiser, norms = torch.optim.AdamW(model.parameters(), weight_decay=0.5), []
    for step, ids in enumerate(drawn[1]):
        optimiser.param_groups[0]["lr"] = 5e-5 * min(step / 2, (20 - step) / 18)
        loss = F.cross_entropy(model(ids).logits[:, 1:-1].flatten(0, 1), words[1:-1].repeat(4))
        optimiser.zero_grad()
        loss.backward()
        norms.append(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in model.parameters()])))
        for parameter in model.parameters():
            parameter.grad /= norms[-1].clamp(min=1)
        optimiser.step()
    assert max(norms) > 1 and f"20/20, loss {loss.item():.3f}" in capsys.readouterr().out
    fitted, start = (AutoModelForMaskedLM.from_pretrained(tmp_path / name) for name in ("fitted-0", "start"))
    for name, value in model.named_parameters():
        if "key.bias" not in name:  # it cancels in the softmax: its gradient is rounding
            torch.testing.assert_close(fitted.get_parameter(name), value, rtol=1e-4, atol=1e-6)
            assert (value - start.get_parameter(name)).abs().max() > 2e-4, name


def test_dropout_is_on_in_the_fit_and_off_in_the_measurement(captions: Path, tmp_path: Path) -> None:
    fit_language_model(captions, tmp_path / "start", FitSettings(steps=1, **SMALL))
    (tmp_path / "start" / "SHA256SUMS").unlink()  # it is changed on purpose
    results = {}
    for rate, dropout in itertools.product((1e-30, 1e-3), (0.0, 0.5)):
        model = AutoModelForMaskedLM.from_pretrained(tmp_path / "start", hidden_dropout_prob=dropout)
        model.save_pretrained(tmp_path / "start")
        settings = FitSettings(init=str(tmp_path / "start"), steps=2, learning_rate=rate, batch_size=8, max_length=16)
        results[rate, dropout] = fit_language_model(captions, tmp_path / f"{rate}-{dropout}", settings)["held_out_loss"]
    assert results[1e-30, 0.0] == results[1e-30, 0.5]  # nothing was learnt: the same model, measured
    assert results[1e-3, 0.0] != results[1e-3, 0.5]


def test_it_serves_as_the_trained_generator(fitted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(fitted)
    lm = load_language_model(config_of("lm_trained", generator=str(fitted)), "unused", tokenizer)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    assert lm is not None and lm.config.vocab_size == vocabulary.size
    ids = tokenizer(["a black cat", ""], padding=True, return_tensors="pt")
    words = maskable_positions(ids["input_ids"], ids["attention_mask"], torch.tensor(vocabulary.special_ids))
    assert words.sum(1)[1] == 0 and words[0, 1:-1].all() and not words[0, [0, -1]].any()


@pytest.mark.parametrize("text", ["A Man, a plan: CAFÉ", "unheard-of zyzzyvas"])
def test_a_new_wordpiece_tokenizer_is_that_of_an_uncased_bert(text: str) -> None:
    """Its pieces are BERT's greedy longest matches over lower-cased words without accents; ids in no fixed order."""
    tokenizer = train_wordpiece(["a man a plan a cafe", "Zebras and UNHEARD-OF heavy pianos"] * 3, 60, 12)
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = tokenizer.get_vocab()
    letters = [piece for piece in sorted(vocabulary, key=vocabulary.__getitem__) if re.fullmatch("##.", piece)]
    assert letters == sorted(letters)  # whatever the process's hash seed
    assert all(piece == piece.lower() for piece in vocabulary if not piece.startswith("["))
    words = re.findall(r"[a-z]+|[^a-z ]", text.lower().replace("é", "e"))
    assert tokenizer.tokenize(text) == [piece for word in words for piece in longest_matches(word, vocabulary)]


def longest_matches(word: str, vocabulary: dict[str, int]) -> list[str]:
    pieces: list[str] = []
    while word:
        pieces_of = [("##" if pieces else "") + word[:end] for end in range(len(word), 0, -1)]
        piece = next((piece for piece in pieces_of if piece in vocabulary), None)
        if piece is None:
            return ["[UNK]"]
        pieces, word = [*pieces, piece], word[len(piece.removeprefix("##")) :]
    return pieces


def test_same_file_and_seed_give_the_same_weights_and_leave_the_callers_random_state(
    captions: Path, tmp_path: Path, family: str
) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit_language_model(captions, tmp_path / name, FitSettings(family=family, steps=3, seed=seed, **SMALL))
        torch.rand(3)
        torch.set_rng_state(before)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    tokenizers = [(tmp_path / name / "tokenizer.json").read_bytes() for name in "ab"]
    assert tokenizers[0] == tokenizers[1]
    fit_language_model(captions, tmp_path / "d", FitSettings(steps=1, **SMALL))
    assert torch.equal(torch.get_rng_state(), before)


def test_it_starts_from_another_model(captions: Path, fitted: Path, tmp_path: Path) -> None:
    start = json.loads((fitted / "fit_lm.json").read_text(encoding="utf-8"))["held_out_accuracy"]
    went_on = fit_language_model(
        captions, tmp_path / "more", FitSettings(init=str(fitted), steps=5, max_length=16, held_out=0.3)
    )
    scratch = fit_language_model(captions, tmp_path / "scratch", FitSettings(steps=5, **SMALL))
    assert went_on["held_out_accuracy"] > max(0.6 * start, 2 * scratch["held_out_accuracy"])
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "more").get_vocab()
        == AutoTokenizer.from_pretrained(fitted).get_vocab()
    )


def test_a_folder_lists_the_sums_of_its_files(fitted: Path) -> None:
    """As sha256sum(1) of GNU's coreutils reads them."""
    names = {line.split("  ")[1] for line in (fitted / "SHA256SUMS").read_text().splitlines()}
    assert names == {path.name for path in fitted.iterdir()} - {"SHA256SUMS"} and "model.safetensors" in names
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=fitted, check=True, capture_output=True)


@pytest.mark.parametrize("sums", [True, False], ids=["sums", "no sums"])
def test_a_damaged_folder_to_start_from_is_named(sums: bool, captions: Path, fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(fitted, folder)
    if not sums:
        (folder / "SHA256SUMS").unlink()
    whole = (folder / "model.safetensors").read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1]) if sums else whole[:-1]
    (folder / "model.safetensors").write_bytes(changed)
    message = r"copy/model\.safetensors: is not the file that was saved" if sums else "copy: not a whole folder"
    with pytest.raises(ValueError, match=message):
        fit_language_model(captions, tmp_path / "more", FitSettings(init=str(folder), max_length=16))


def test_more_tokens_than_the_other_model_takes_are_refused(captions: Path, fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_length is 50; .* takes at most 16 tokens"):
        fit_language_model(captions, tmp_path / "more", FitSettings(init=str(fitted)))


def test_an_existing_folder_is_not_overwritten(captions: Path, fitted: Path, tmp_path: Path) -> None:
    before = (fitted / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="already there"):
        fit_language_model(captions, fitted, FitSettings(steps=1, **SMALL))
    assert (fitted / "model.safetensors").read_bytes() == before
