"""The loaders of all ``datasets`` of a run of METER or ViLT.

Source: docs/official/meter.md §3.8, docs/official/vilt.md §3.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from vlp.data.arrow.coverage import coverage_of
from vlp.data.arrow.dataset import ArrowDataset
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.registry import SPECS, DatasetSpec, Split, get_spec
from vlp.data.arrow.tables import ArrowTables
from vlp.data.arrow.task_datasets import VqaDataset
from vlp.data.blocks import Blocks
from vlp.data.collate import Batch, Collator, Plan
from vlp.data.datamodule import RunDataModule
from vlp.data.fed import Fed
from vlp.data.masking import MlmMasker
from vlp.data.published import REPORT
from vlp.data.samplers import ResumableDistributedSampler
from vlp.data.tokenizers import encode, load_tokenizer
from vlp.data.transforms import build_transform
from vlp.data.unknown_tokens import TextsRead, spread
from vlp.data.worker_signals import ignore_in_worker
from vlp.files import write_json

TEXTS_PER_BLOCK = 1024


class ArrowDataModule(RunDataModule):
    """Concatenates the train, val and test sets of every dataset key; one tokenizer and masking for all.

    ``specs`` says which tables a dataset key reads; a baseline that reads others has a subclass with its own.
    """

    specs: ClassVar[Mapping[str, DatasetSpec]] = SPECS

    def __init__(self, config: dict[str, Any]) -> None:
        """Open what the run reads: all splits for training, the test split alone with ``test_only``.

        Raises:
            DataError: a table is missing or broken, or the run would have nothing to train on.
        """
        super().__init__()
        self.config = config
        splits: tuple[Split, ...] = ("test",) if config["test_only"] else ("train", "val", "test")
        self.sets = {split: self._mixed(split) for split in splits}
        self.answers = self._vqa_answers() if "vqa" in config["datasets"] else {}
        # vg, sbu and cc12m have no validation split.
        self.has_validation = any(get_spec(key, self.specs).val for key in config["datasets"])
        # Last, since a hub name may have to be looked for in the network.
        self.tokenizer = load_tokenizer(config["tokenizer"])
        if len(self.tokenizer) > config["vocab_size"]:
            raise ValueError(
                f"vocab_size={config['vocab_size']}, but tokenizer={config['tokenizer']} has {len(self.tokenizer)}"
            )
        masker = MlmMasker(self.tokenizer, config["mlm_prob"], config["whole_word_masking"])
        self.collate = Collator(self.tokenizer, masker, config["max_text_len"], self.plans())

    def plans(self) -> list[Plan]:
        """What a subclass's model wants to know of every batch before a device sees it: see :class:`Collator`."""
        return []

    @rank_zero_only
    def write_report(self, folder: Path) -> None:
        entries = [
            coverage_of(dataset, self.config["eval_split"])  # type: ignore[arg-type]
            for mixed in self.sets.values()
            for dataset in mixed.datasets
            if len(dataset)  # type: ignore[arg-type]
        ]
        write_json(folder / REPORT, {"tables": entries})

    def texts_read(self) -> Iterator[TextsRead]:
        yield from map(self.texts_of, self.sets["train"].datasets)  # type: ignore[arg-type]

    def texts_of(self, dataset: ArrowDataset) -> TextsRead:
        """Some texts of one dataset, as a batch has them."""
        name = ", ".join(f"{name}.arrow" for name in dataset.tables.names[:3])
        return texts_of(name, dataset.tables, self.tokenizer, self.config["max_text_len"])

    @cached_property
    def fed(self) -> Fed:
        return {
            f"{split}/{dataset.spec.key}": dataset.tables.digests()  # type: ignore[attr-defined]
            for split, mixed in self.sets.items()
            for dataset in mixed.datasets
        }

    def token_blocks(self) -> Sequence[list[list[int]]]:
        mixed = self.sets["train"] if "train" in self.sets else self._mixed("train")
        tables = [dataset.tables for dataset in mixed.datasets]  # type: ignore[attr-defined]
        places = [
            (each, range(start, min(start + TEXTS_PER_BLOCK, each.num_texts)))
            for each in tables
            for start in range(0, each.num_texts, TEXTS_PER_BLOCK)
        ]

        def read(number: int) -> list[list[int]]:
            each, numbers = places[number]
            encoded = encode(self.tokenizer, [each.text(i) for i in numbers], self.config["max_text_len"])
            return [ids[: sum(mask)] for ids, mask in zip(encoded.ids, encoded.masks, strict=True)]

        return Blocks(len(places), read)

    def dataset(
        self, key: str | DatasetSpec, split: Split, image_only: bool = False, false_draws: bool = True
    ) -> ArrowDataset:
        """One dataset; ``image_only`` gives one sample per image, ``false_draws=False`` no false images or texts."""
        c = self.config
        keys = c["train_transform_keys"] if split == "train" else c["val_transform_keys"]
        return build_dataset(
            get_spec(key, self.specs) if isinstance(key, str) else key,
            split,
            c["data_root"],
            [build_transform(name, c["image_size"]) for name in keys],
            seed=c["seed"],
            draw_false_image=c["draw_false_image"] if false_draws else 0,
            draw_false_text=c["draw_false_text"] if false_draws else 0,
            image_only=image_only,
            eval_split=c["eval_split"],
        )

    def _vqa_answers(self) -> dict[int, str]:
        """VQAv2's vocabulary, id -> answer, from the train and val tables, whatever split the run reads.

        Raises:
            ValueError: an id for which the head has no place.
        """
        spec = get_spec("vqa", self.specs)
        dataset = self.dataset(replace(spec, train=tuple(dict.fromkeys(spec.train + spec.val))), "train")
        assert isinstance(dataset, VqaDataset)
        answers, size = dataset.answers(), self.config["vqav2_label_size"]
        if answers and max(answers) >= size:
            raise ValueError(f"vqav2_label_size={size}, but the tables of vqa have {max(answers) + 1} answers")
        return answers

    def _mixed(self, split: Split) -> MixedDataset:
        c = self.config
        itm = c["loss_names"].get("itm", 0) > 0 and c["draw_false_image"] > 0
        mixed = MixedDataset([self.dataset(key, split, c["image_only"]) for key in c["datasets"]], itm)
        if split == "train":
            mixed.refuse_empty()
        return mixed

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", self.resumed_train_sampler(*self._processes()))

    def new_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        return self._sampler("train", True, processes, rank)

    def samples_in(self, batch: Batch) -> int:
        return len(batch["text"])

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return self._loader("val", self._sampler("val", True, *self._processes())) if self.has_validation else []

    def test_dataloader(self) -> DataLoader[Any]:
        self.sets["test"].refuse_empty()
        return self._loader("test", self._sampler("test", False, *self._processes()))

    def _sampler(self, split: Split, shuffle: bool, processes: int, rank: int) -> ResumableDistributedSampler:
        return ResumableDistributedSampler(
            self.sets[split], num_replicas=processes, rank=rank, shuffle=shuffle, seed=self.config["seed"]
        )

    def _loader(self, split: Split, sampler: ResumableDistributedSampler) -> DataLoader[Any]:
        return DataLoader(
            self.sets[split],
            batch_size=self.config["per_gpu_batchsize"],
            sampler=sampler,
            num_workers=self.config["num_workers"],
            collate_fn=self.collate,
            worker_init_fn=ignore_in_worker,
            pin_memory=self._on_gpu(),
            generator=torch.Generator(),  # of its own: starting an epoch must not move the model's random stream
        )


def texts_of(name: str, tables: ArrowTables, tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> TextsRead:
    """Some texts of the tables ``name``, and their ids."""
    texts = [tables.text(i) for i in spread(range(tables.num_texts))]
    return TextsRead(name, texts, encode(tokenizer, texts, max_length).ids if texts else [])
