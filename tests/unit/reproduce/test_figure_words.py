"""Which word Fig. 5 looks at, and what replaces it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from albef.dataset import PretrainData
from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator, UniformGenerator, build_generator
from epic_common.language_models.small import FAMILIES
from epic_common.vocabulary import Vocabulary
from reproduce.figures.reading import READERS, Pair, PairReader
from reproduce.figures.words import Word, find_word, likeliest_other_word, most_salient_word, with_word, words_of
from tests.unit.epic.tiny import language_model

FAMILY = {"meter": "roberta", "vilt": "bert", "albef": "bert", "xvlm": "bert"}
CAPTION = "A Dog runs, and a small dog sleeps!"
LINES = [CAPTION, CAPTION.lower(), "a horse is jumping", "a dog is jumping and sleeping", "Dogs and horses!"] * 4


def image_file(width: int = 60, height: int = 40) -> bytes:
    """A PNG file whose left half is red."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste("red", (0, 0, width // 2, height))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def config_of(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """The keys that a reader reads."""
    sacred = {
        **{"tokenizer": str(folder), "image_size": 32, "max_text_len": 40, "mlm_prob": 0.15},
        **{"whole_word_masking": True, "val_transform_keys": ["clip" if name == "meter" else "pixelbert"]},
    }
    blocks = {key: {"max_position_embeddings": 40, "vocab_size": 30522} for key in ("bert_config", "text_config")}
    yaml = {"text_encoder": str(folder), "image_res": 32, "max_words": 30, "max_tokens": 30, **blocks}
    return {**sacred, **yaml, **changes}


@pytest.fixture(params=FAMILY)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer of each family that knows the words of this file."""
    made = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    for name, folder in made.items():
        FAMILIES[name].train_tokenizer(LINES, 400, 40).save_pretrained(folder)
    return made


@pytest.fixture
def folder(name: str, folders: dict[str, Path]) -> Path:
    return folders[FAMILY[name]]


@pytest.fixture
def reader(name: str, folder: Path) -> PairReader:
    return READERS[name](config_of(name, folder))


@pytest.fixture
def pair(reader: PairReader) -> Pair:
    return reader(image_file(), CAPTION)


def test_tokens_stand_for_the_characters_that_they_spell(pair: Pair, reader: PairReader) -> None:
    assert len(pair.spans) == pair.ids.shape[1] == len(pair.maskable)
    for i, (start, end) in enumerate(pair.spans):
        special = int(pair.ids[0, i]) in (reader.tokenizer.cls_token_id, reader.tokenizer.sep_token_id)
        assert special == (start == end) != bool(pair.maskable[i])
        if not special:
            piece = str(reader.tokenizer.decode([int(pair.ids[0, i])])).strip().removeprefix("##")
            assert piece.lower() == pair.text[start:end].strip().lower()


def test_the_words_of_a_caption_have_their_tokens(pair: Pair) -> None:
    words = list(words_of(pair))
    assert [word.text.lower() for word in words] == ["a", "dog", "runs", "and", "a", "small", "dog", "sleeps"]
    for word in words:
        tokens = pair.tokens_of(word.start, word.end)
        assert tokens and pair.text[word.start : word.end] == word.text
        assert all(bool(pair.maskable[i]) for i in tokens)


def test_a_word_is_found_whatever_its_case(pair: Pair) -> None:
    assert find_word(pair, "DOG").start == 2
    with pytest.raises(ValueError, match=r"--word zebra: no word of the caption .*; it has [Aa], [Dd]og, runs"):
        find_word(pair, "zebra")


def test_the_most_salient_word_has_most_of_alpha(pair: Pair) -> None:
    small = find_word(pair, "small")
    alpha = [0.01] * len(pair.spans)
    for token in pair.tokens_of(small.start, small.end):
        alpha[token] = 0.5
    assert most_salient_word(pair, alpha) == small


def test_another_word_takes_its_place() -> None:
    assert with_word("a red cup", Word("red", 2, 5), "blue") == "a blue cup"


def generator_of(reader: PairReader, **likely: float) -> LanguageModelGenerator:
    """A language model that finds the pieces ``likely`` likely wherever it is asked."""
    vocabulary = Vocabulary.from_tokenizer(reader.tokenizer)
    family = "roberta" if reader.tokenizer.cls_token == "<s>" else "bert"
    model: Any = language_model(family, size=vocabulary.size)
    model.eval()
    bias = model.lm_head.bias if family == "roberta" else model.cls.predictions.bias
    with torch.no_grad():
        for piece, weight in likely.items():
            bias[reader.tokenizer.convert_tokens_to_ids(piece)] = weight
        bias[list(vocabulary.special_ids)] = 2e4
    settings = EpicConfig(enabled=True, masking="uniform", generator_training="fixed")
    made = build_generator(settings, vocabulary, model)
    assert isinstance(made, LanguageModelGenerator)
    return made


def test_the_likeliest_other_word_is_no_piece_and_not_the_word_itself(
    name: str, reader: PairReader, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    roberta = name == "meter"
    own, piece, other = ("Ġdog", "ing", "Ġhorse") if roberta else ("dog", "##ing", "horse")
    generator = generator_of(reader, **{own: 1e4, piece: 8e3, other: 6e3})
    seen: list[Tensor] = []
    logits = generator.logits

    def noted(ids: Tensor, *rest: Any) -> Tensor:
        seen.append(ids)
        return logits(ids, *rest)

    monkeypatch.setattr(generator, "logits", noted)
    word = [each for each in words_of(pair) if each.text == "dog"][-1]
    found, changed = likeliest_other_word(generator, reader, image_file(), pair, word)
    assert found == "horse" and changed.text == with_word(pair.text, word, "horse")
    (masked,) = seen
    place = pair.tokens_of(word.start, word.end)[0]
    assert int(masked[0, place]) == reader.tokenizer.mask_token_id
    assert int((masked == reader.tokenizer.mask_token_id).sum()) == 1
    different = (changed.ids != pair.ids).nonzero()[:, 1].tolist() if changed.ids.shape == pair.ids.shape else [place]
    assert different == [place]


def test_a_generator_without_words_of_its_own_asks_for_one(reader: PairReader, pair: Pair) -> None:
    vocabulary = Vocabulary.from_tokenizer(reader.tokenizer)
    uniform = build_generator(EpicConfig(enabled=True, masking="uniform", replacement="uniform"), vocabulary)
    assert isinstance(uniform, UniformGenerator)
    with pytest.raises(ValueError, match="give --replace WORD"):
        likeliest_other_word(uniform, reader, image_file(), pair, find_word(pair, "small"))


@pytest.mark.parametrize("caption", ["", "  ", "\n"])
def test_an_empty_caption_is_refused(reader: PairReader, caption: str) -> None:
    with pytest.raises(ValueError, match="has no word: give one that describes the image"):
        reader(image_file(), caption)


def test_the_view_is_what_the_model_sees(name: str, pair: Pair) -> None:
    """METER's square is cut out of the middle, ViLT's image keeps its shape, the others' square is the whole image."""
    image: Any = pair.batch["image"]
    tensor = image[0][0] if isinstance(image, list) else image[0]
    red = tensor[0] > tensor[0].mean()
    view = pair.view.resize(tensor.shape[:0:-1])
    assert torch.equal(red[:, [2, -3]], torch.tensor([[True, False]] * len(red)))
    assert view.getpixel((2, 2))[0] > 200 and view.getpixel((view.width - 3, 2))[0] < 50  # type: ignore[index]
    if name == "meter":
        assert pair.view.size == (32, 32)


def test_a_long_caption_is_cut_as_the_model_cuts_it(name: str, reader: PairReader) -> None:
    pair = reader(image_file(), " ".join(["dog"] * 60))
    longest = {"meter": 40, "vilt": 40, "albef": PretrainData.longest, "xvlm": 30}[name]
    assert len(pair.spans) == pair.ids.shape[1] == longest
    assert len(list(words_of(pair))) == int(pair.maskable.sum())
