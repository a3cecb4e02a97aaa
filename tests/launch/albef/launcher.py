"""Drive ALBEF's scripts as a user does, on scenes in the layout of every task."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tests.launch.yaml_launcher import Run, YamlLauncher

CONFIGS = {"Pretrain_nlvr": "NLVR_pretrain"}  # script -> its YAML file, where that has another name
WIDTH, VOCAB = 32, 300
SMALL = (
    *(f"bert_config.{key}={WIDTH}" for key in ("hidden_size", "encoder_width", "intermediate_size")),
    *("bert_config.num_attention_heads=2", f"bert_config.vocab_size={VOCAB}"),
    # Or a run would draw nothing but its negatives.
    *("bert_config.hidden_dropout_prob=0.1", "bert_config.attention_probs_dropout_prob=0.1"),
    *(f"vision_config.width={WIDTH}", "vision_config.depth=2", "vision_config.heads=2", "image_res=32"),
    *("num_workers=0", "log_every_n_steps=1"),
)
NO_DROPOUT = ("bert_config.hidden_dropout_prob=0", "bert_config.attention_probs_dropout_prob=0")
CONTRAST = (f"vision_width={WIDTH}", "embed_dim=16")
QUEUES = (*CONTRAST, "queue_size=64")
STEPS = 4  # of an epoch of pre-training
EPOCHS = 2


class AlbefLauncher(YamlLauncher):
    """Runs command lines of ALBEF's scripts with a small model; ``cold`` ones in a fresh Python.

    Args:
        data: holds ``raw`` (COCO's layout), ``tasks`` (those of the others), ``lists`` and ``bert-tiny``.
    """

    def __init__(self, data: Path, logs: Path) -> None:
        super().__init__("albef", logs)
        self.data, self.language_model = data, data / "bert-tiny"
        raw, tasks = data / "raw", data / "tasks"
        pairs = (*self._lists(train="coco.json"), f"image_root={raw}", "batch_size=16")
        evaluated = {"val": "coco_val.json", "test": "coco_test.json"}
        once, batches = "schedular.epochs=1", ("batch_size_train=16", "batch_size_test=8")
        entailment = self._lists(train="ve_train.json", val="ve_dev.json", test="ve_test.json")
        statements = self._lists(train="nlvr_train.json", val="nlvr_dev.json", test="nlvr_test.json")
        expressions = self._lists(train="refcoco+_train.json", test="refcoco+_val.json refcoco+_test.json")
        self.items: dict[str, tuple[str, ...]] = {
            "Pretrain": (*pairs, *QUEUES, f"schedular.epochs={EPOCHS}"),
            "Retrieval": (
                *(*self._lists(train="coco_train.json", **evaluated), f"image_root={raw}"),
                *(*QUEUES, *batches, "k_test=4", once),
            ),
            "VQA": (
                *(*self._lists(train="vqa_train.json", test="vqa_test.json"), f"vqa_root={tasks / 'vqa'}"),
                *(f"answer_list={data / 'lists' / 'answer_list.json'}", *batches, "k_test=4", once),
            ),
            "VE": (*entailment, f"image_root={tasks / 'snli' / 'Flickr30K' / 'images'}", *batches, once),
            "Pretrain_nlvr": (*pairs, *CONTRAST, once),
            "NLVR": (*statements, f"image_root={tasks / 'nlvr2'}", "batch_size=16", once),
            "Grounding": (
                *(*expressions, f"image_root={tasks / 'refcoco+'}", f"refcoco_data={data / 'lists'}"),
                *(f"det_file={data / 'lists' / 'refcoco+' / 'dets.json'}", *QUEUES, "batch_size=16", once),
            ),
        }

    def _lists(self, **names: str) -> tuple[str, ...]:
        folder = self.data / "lists"
        files = {key: ", ".join(str(folder / name) for name in each.split()) for key, each in names.items()}
        return tuple(f"{key}_file={f'[{each}]' if ', ' in each else each}" for key, each in files.items())

    # Runs that several tests look at ---------------------------------------------------------------------

    @cached_property
    def vanilla(self) -> Run:
        """Two epochs of four steps."""
        return self.run("Pretrain")

    @cached_property
    def epic(self) -> Run:
        """The same with EPIC, the vanilla run as its teacher."""
        return self.run("Pretrain", *self.teacher)

    @property
    def pretrained(self) -> str:
        """What the downstream scripts start from."""
        return str(self.vanilla.directory / f"checkpoint_{EPOCHS - 1:02d}.pth")

    @property
    def teacher(self) -> tuple[str, ...]:
        """What turns a run into one with EPIC, the vanilla run as its teacher."""
        return "epic.enabled=True", f"teacher_path={self.pretrained}"

    # Commands --------------------------------------------------------------------------------------------

    def arguments(self, script: str, output: Path, *items: str) -> list[str]:
        """The command line of a script; flags and keys of ``items`` come last, and a later key wins."""
        config = ("--config", f"./configs/tiny/{CONFIGS.get(script, script)}.yaml")
        own = (*SMALL, *self.items[script], *items)
        given = () if "--config" in own else config
        return [f"{script}.py", *given, "--output_dir", str(output), "--text_encoder", str(self.language_model), *own]
