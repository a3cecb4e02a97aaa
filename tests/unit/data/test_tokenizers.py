"""Tokenisers from local files, from the hub's cache, and what is said where there are none."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epic_common.language_models.fit import FitSettings, fit_language_model
from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from vlp.checkpoint.errors import WeightsError
from vlp.data.tokenizers import encode, load_tokenizer

METER = FIXTURES / "meter"
BERT_VOCAB = METER / "tokenizer_bert_vocab.txt"
ROBERTA = (METER / "tokenizer_roberta_vocab.json", METER / "tokenizer_roberta_merges.txt")

ROBERTA_SPECIALS = ("<s>", "</s>", "<pad>", "<mask>", "<unk>")
TOKENIZERS = (tokenizer_from_files(BERT_VOCAB), tokenizer_from_files(*ROBERTA))


def write_bert(folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copyfile(BERT_VOCAB, folder / "vocab.txt")


def write_roberta(folder: Path) -> None:
    folder.mkdir(parents=True)
    for source, name in zip(ROBERTA, ("vocab.json", "merges.txt"), strict=True):
        shutil.copyfile(source, folder / name)


def test_encode_adds_specials_cuts_and_pads() -> None:
    bert = tokenizer_from_files(BERT_VOCAB)
    vocabulary = BERT_VOCAB.read_text().split()
    encoding = encode(bert, ["W1 w2a", "w1 " * 20], 7)
    assert [[vocabulary[i] for i in row] for row in encoding.ids] == [
        ["[CLS]", "w1", "w2", "##a", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "w1", "w1", "w1", "w1", "w1", "[SEP]"],
    ]
    assert encoding.masks == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]


def test_byte_level_roberta_knows_every_text() -> None:
    roberta = tokenizer_from_files(*ROBERTA)
    (ids,) = encode(roberta, ["Café 東京"], 40).ids
    assert ids[0] == 0 and ids[-1] == 1 and 2 in ids and 3 not in ids
    assert roberta.decode(ids, skip_special_tokens=True) == "Café 東京"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<s>", "</s>", "<pad>", "<mask>", "<unk>", "[CLS]", "[SEP]", "[PAD]", "[MASK]", " ", "w1"])
    )
)
def test_a_caption_that_spells_special_tokens_is_text(pieces: list[str]) -> None:
    """Special tokens frame the sentence and stand nowhere in it, but for BERT's unknown words."""
    for tokenizer, allowed in ((TOKENIZERS[0], {TOKENIZERS[0].unk_token_id}), (TOKENIZERS[1], set())):
        encoding = encode(tokenizer, ["".join(pieces), ""], 30)
        assert encoding.ids[1][:2] == [tokenizer.cls_token_id, tokenizer.sep_token_id]
        ids = [i for i, valid in zip(encoding.ids[0], encoding.masks[0], strict=True) if valid]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert not (set(ids[1:-1]) & set(tokenizer.all_special_ids)) - allowed
        pads = encoding.ids[0][len(ids) :]
        assert pads == [tokenizer.pad_token_id] * (30 - len(ids))


def test_a_folder_is_read_by_its_own_files(tmp_path: Path) -> None:
    write_bert(tmp_path / "roberta-in-name-only")
    write_roberta(tmp_path / "other")
    bert, roberta = load_tokenizer(tmp_path / "roberta-in-name-only"), load_tokenizer(tmp_path / "other")
    assert (len(bert), len(roberta)) == (48, 261)
    bert.save_pretrained(tmp_path / "saved-bert")
    roberta.save_pretrained(tmp_path / "saved-roberta")
    for saved, original in (("saved-bert", bert), ("saved-roberta", roberta)):
        again = load_tokenizer(str(tmp_path / saved))
        assert encode(again, ["W3 abc!"], 12) == encode(original, ["W3 abc!"], 12)
        assert again.mask_token_id == original.mask_token_id


def test_a_folder_that_keeps_case_is_not_lower_cased(tmp_path: Path) -> None:
    write_bert(tmp_path / "cased")
    (tmp_path / "cased" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer = load_tokenizer(tmp_path / "cased")
    assert tokenizer("W1 w1", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id, 6]


def test_missing_and_empty_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; give the folder of a tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer; give the folder of a tokenizer: vocab.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"vocab.txt: is no folder; give the folder"):
        load_tokenizer(BERT_VOCAB)
    (tmp_path / "vocab.txt").write_text("")
    with pytest.raises(OSError, match=r"vocab.txt: is empty; the file holds no vocabulary"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(OSError, match="is a Unigram tokenizer"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a tokenizer and a language model, as fit_lm writes them, one of each family."""
    folder = tmp_path_factory.mktemp("fitted")
    lines = [f"a {color} square beside {number} dots" for color in ("red", "green", "blue") for number in range(30)]
    (folder / "captions.txt").write_text("\n".join(lines))
    for family in ("roberta", "bert"):
        sizes = FitSettings(family=family, steps=1, layers=1, width=16, heads=2, vocab_size=280)
        fit_language_model(folder / "captions.txt", folder / family, sizes)
    return folder


FILES = {
    "roberta": (
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "model.safetensors",
    ),
    "bert": ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"),
}
CASES = [(family, name) for family, names in FILES.items() for name in names]


@pytest.mark.parametrize("sums", [True, False], ids=["sums", "no sums"])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_file_that_is_cut_is_named(family: str, name: str, sums: bool, fitted: Path, tmp_path: Path) -> None:
    """By the check sums of fit_lm's folder; without them by what the files say of each other."""
    folder = tmp_path / "copy"
    shutil.copytree(fitted / family, folder)
    if not sums:
        (folder / "SHA256SUMS").unlink()
    whole = load_tokenizer(folder).get_vocab()
    content = (folder / name).read_bytes()
    for kept in (0, len(content) // 2, len(content) - 3):
        (folder / name).write_bytes(content[:kept])
        with pytest.raises((OSError, WeightsError)) as refusal:
            load_tokenizer(folder)
        message = str(refusal.value)
        assert message.startswith(f"{folder / name}: ") and "\n" not in message
    (folder / name).write_bytes(content)
    assert load_tokenizer(folder).get_vocab() == whole


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_changed_or_missing_file_of_a_fitted_folder_is_named(
    family: str, name: str, fitted: Path, tmp_path: Path
) -> None:
    folder, draw = tmp_path / "copy", random.Random(name)
    shutil.copytree(fitted / family, folder)
    whole = (folder / name).read_bytes()
    for _ in range(10):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(changed)
        with pytest.raises((OSError, WeightsError), match=re.escape(str(folder / name))):
            load_tokenizer(folder)
    (folder / name).unlink()
    with pytest.raises((OSError, WeightsError), match=re.escape(f"{folder / name}: is missing")):
        load_tokenizer(folder)


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_half_of_a_roberta_tokenizer_names_the_other_half(missing: str, tmp_path: Path) -> None:
    write_roberta(tmp_path / "half")
    (tmp_path / "half" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"half/{missing}: no such file; give the folder of a tokenizer"):
        load_tokenizer(tmp_path / "half")


def test_tokens_that_contradict_each_other_are_one_line(tmp_path: Path) -> None:
    write_roberta(tmp_path / "odd")
    (tmp_path / "odd" / "merges.txt").write_text("#version: 0.2\nnot there\n" + "a b\n" * 50)
    with pytest.raises(OSError, match=r"odd: its files do not make a tokenizer \("):
        load_tokenizer(tmp_path / "odd")


HUB_SCRIPT = """
from vlp.data.tokenizers import load_tokenizer
for name in ("tiny-roberta", "tiny-uncased", "tiny-cased"):
    print(type(load_tokenizer(name)).__name__.removesuffix("Fast"), load_tokenizer(name).tokenize("W1"))
try:
    load_tokenizer("roberta-base")
except OSError as error:
    print(error)
"""


def test_hub_names_choose_the_class_and_a_failure_is_an_error(tmp_path: Path) -> None:
    """With a hub cache made by hand and no network: transformers 5 alone would return an empty tokenizer."""
    for name, write in (("tiny-roberta", write_roberta), ("tiny-uncased", write_bert), ("tiny-cased", write_bert)):
        model = tmp_path / "hub" / f"models--{name}"
        write(model / "snapshots" / ("0" * 40))
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text("0" * 40)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["RobertaTokenizer ['W', '1']", "BertTokenizer ['w1']", "BertTokenizer ['[UNK]']"]
    assert lines[3] == (
        "tokenizer 'roberta-base': neither a local path nor in the local cache, and HF_HUB_OFFLINE forbids to ask the "
        "Hugging Face hub; give tokenizer=FOLDER, saved on a connected machine with save_pretrained"
    )
