"""The streams of X-VLM's pre-training stages, made from the configuration's ``images`` and ``regions``.

Source: docs/official/xvlm.md §3.2–3.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from vlp.data.collate import Plan
from vlp.data.json.images import ImageRoot
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.jsonl.datamodule import Source, StreamDataModule
from vlp.data.jsonl.lines import JsonLines
from vlp.data.jsonl.mixed import IMAGES, REGIONS
from vlp.data.jsonl.pairs import PairCollator, PairReader
from vlp.data.jsonl.region_batch import RegionCollator
from vlp.data.jsonl.regions import RegionReader
from vlp.data.jsonl.rows import RowImages
from vlp.data.jsonl.texts import TextReader, masker_of
from vlp.data.span_masking import SpanMasker
from vlp.nn.step_plan import caption_plan, step_plan
from xvlm.dataset.tokenizers import plain_tokenizer

SCALE = (0.2, 1.0)  # of an image's area, that a random crop keeps
Config = Mapping[str, Any]


class XvlmStreams(StreamDataModule):
    """The streams of a stage; a subclass says which, and what becomes of their texts.

    Attributes:
        region_collate: of the batches of regions, where there are any.
    """

    streams: ClassVar[tuple[str, ...]]
    plans: ClassVar[tuple[Plan, ...]] = (step_plan,)
    mlm: ClassVar[bool] = False
    eos: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        """Open what the run reads.

        Raises:
            DataError: a file is missing, or its first rows do not serve.
            OSError, ValueError: there is no tokenizer ``text_encoder``, or it does not fit the text encoder.
        """
        tokenizer = plain_tokenizer(config)
        masking = masker(tokenizer, config) if self.mlm else None
        sources = {}
        if IMAGES in self.streams:
            sources[IMAGES] = _images(config, tokenizer, masking, self.eos, self.plans)
        if REGIONS in self.streams and config["train_file_regions"]:
            sources[REGIONS] = _regions(config, tokenizer, masking)
        first = config[next(iter(sources))]
        iter_perc = config[REGIONS]["iter_perc"] if REGIONS in sources else 0.0
        super().__init__(config, tokenizer, sources, first["batch_size"], iter_perc)
        self.region_collate = sources[REGIONS].collate if REGIONS in sources else None


class PretrainData(XvlmStreams):
    """Pretrain.py: pairs, and in a share of the iterations regions."""

    streams, mlm = (IMAGES, REGIONS), True


class NlvrPretrainData(XvlmStreams):
    """NLVR_pretrain.py: pairs, nothing masked."""

    streams = (IMAGES,)


class CaptioningPretrainData(XvlmStreams):
    """Captioning_pretrain.py: pairs whose texts end in [SEP]."""

    streams, eos = (IMAGES,), True
    plans = (caption_plan,)


class GroundingBboxPretrainData(XvlmStreams):
    """Grounding_bbox_pretrain.py: regions alone, nothing masked."""

    streams = (REGIONS,)


def masker(tokenizer: PreTrainedTokenizerBase, config: Config) -> SpanMasker:
    """The masker of a configuration."""
    return masker_of(
        tokenizer,
        mask_prob=config["mask_prob"],
        max_masks=config["max_masks"],
        whole_word=config["mask_whole_word"],
        skipgram_prb=config["skipgram_prb"],
        skipgram_size=config["skipgram_size"],
    )


def texts(
    tokenizer: PreTrainedTokenizerBase, masker: SpanMasker | None, config: Config, tokenized: bool, eos: bool = False
) -> TextReader:
    """What reads the texts of a stream."""
    lengths = {"max_words": config["max_words"], "max_tokens": config["max_tokens"]}
    return TextReader(tokenizer, masker, **lengths, tokenized=tokenized, eos=eos)


def regions(config: Config, reader: TextReader, images: RowImages) -> RegionReader:
    """What reads the rows of regions."""
    block = config[REGIONS]
    return RegionReader(
        images,
        reader,
        config["image_res"],
        config["patch_size"],
        max_regions=block["max_regions"],
        min_perc_in_image=block["min_perc_in_image"],
        careful_hflip=block.get("careful_hflip", False),
        caption_key=block["caption_key"],
    )


def _images(config: Config, tokenizer: Any, masker: SpanMasker | None, eos: bool, plans: tuple[Plan, ...]) -> Source:
    block, res = config[IMAGES], config["image_res"]
    reader = PairReader(
        _row_images(config, IMAGES),
        block["caption_key"],
        texts(tokenizer, masker, config, block["tokenized"], eos),
        EvalTransform(res) if config.get("fixed_views") else TrainTransform(res, SCALE),
    )
    collate = PairCollator(tokenizer.pad_token_id, plans)
    return Source(_lines(config, "train_file"), reader, collate, block["batch_size"], block["num_workers"])


def _regions(config: Config, tokenizer: Any, masker: SpanMasker | None) -> Source:
    block = config[REGIONS]
    reader = regions(config, texts(tokenizer, masker, config, block["tokenized"]), _row_images(config, REGIONS))
    collate = RegionCollator(block["batch_size"], tokenizer.pad_token_id, [step_plan])
    return Source(_lines(config, "train_file_regions"), reader, collate, block["max_images"], block["num_workers"])


def _lines(config: Config, key: str) -> JsonLines:
    given = config[key]
    return JsonLines([given] if isinstance(given, str) else given, key)


def _row_images(config: Config, name: str) -> RowImages:
    block = config[name]
    root = None
    if block["is_image_rpath"]:
        root = ImageRoot(config["image_root"] or ".", "image_root", config["allow_outside_root"])
    return RowImages(block["image_key"], root, f"{name}.image_key")
