"""Drive X-VLM's scripts as a user does, on scenes in the layout of every task."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tests.launch.yaml_launcher import Run, YamlLauncher
from vlp.data.jsonl.plans import WITHOUT_REFCOCO

WIDTH, VOCAB = 32, 300
SMALL = (
    *(f"text_config.{key}={WIDTH}" for key in ("hidden_size", "intermediate_size")),
    *("text_config.num_attention_heads=2", f"text_config.vocab_size={VOCAB}"),
    # Or a run would draw nothing but its negatives.
    *("text_config.hidden_dropout_prob=0.1", "text_config.attention_probs_dropout_prob=0.1"),
    *(f"vision_config.{key}" for key in ("embed_dim=8", "vision_width=64", "depths=[1,1,1,1]", "num_heads=[1,1,2,2]")),
    *("image_res=64", "vision_config.image_res=64", "vision_config.window_size=4"),
    *("num_workers=0", "log_every_n_steps=1"),
)
NO_DROPOUT = ("text_config.hidden_dropout_prob=0", "text_config.attention_probs_dropout_prob=0")
ITERATIONS, WITH_REGIONS = 4, 2  # of an epoch of pre-training
STEPS = ITERATIONS + WITH_REGIONS
EPOCHS = 2
KARPATHY = "coco_karpathy/coco_karpathy"


class XvlmLauncher(YamlLauncher):
    """Runs command lines of X-VLM's scripts with a small model; ``cold`` ones in a fresh Python.

    Args:
        data: holds ``raw`` (COCO's layout), ``tasks`` (those of the others), ``lines``, ``lists`` and ``bert-tiny``.
    """

    def __init__(self, data: Path, logs: Path) -> None:
        super().__init__("xvlm", logs)
        self.data, self.language_model = data, data / "bert-tiny"
        raw, tasks, lists = data / "raw", data / "tasks", data / "lists"
        once, batches = "schedular.epochs=1", ("batch_size_train=16", "batch_size_test=8")
        size, contrast = "train_dataset_size=64", ("embed_dim=16", "k_test=4", "batch_size_test_text=16")
        evaluated = {"val": "coco_val.json", "test": "coco_test.json"}
        written = {f"{split}{gt}": f"{KARPATHY}_{split}{gt}.json" for split in ("val", "test") for gt in ("", "_gt")}
        phrases = (
            *self._lists(train="refcoco+_train.json", test="refcoco+_val.json refcoco+_test.json"),
            *(f"image_root={tasks / 'refcoco+'}", f"refcoco_data={lists}", "batch_size=16", once),
        )
        self.items: dict[str, tuple[str, ...]] = {
            "Pretrain": (
                *(*self._pairs("coco"), *self._regions("vg_regions"), f"train_dataset_size={16 * ITERATIONS}"),
                *(f"schedular.epochs={EPOCHS}", "embed_dim=16", "ckpt_frequent=1"),
            ),
            "NLVR_pretrain": (*self._pairs("coco"), size, "embed_dim=16", once),
            "Grounding_bbox_pretrain": (*self._regions(*WITHOUT_REFCOCO), "train_dataset_size=48", once),
            "Captioning_pretrain": (*self._pairs("coco"), "images.caption_key=caption", size, once),
            "Retrieval": (
                *(*self._lists(train="coco_train.json", **evaluated), f"image_root={raw}", *contrast, *batches, once),
            ),
            "VQA": (
                *(*self._lists(train="vqa_train.json", test="vqa_test.json"), f"vqa_root={tasks / 'vqa'}"),
                *(f"vg_root={tasks / 'vqa'}", f"answer_list={lists / 'answer_list.json'}", *batches, "k_test=4", once),
            ),
            "NLVR": (
                *self._lists(train="nlvr_train.json", val="nlvr_dev.json", test="nlvr_test.json"),
                *(f"image_root={tasks / 'nlvr2'}", "batch_size=16", once),
            ),
            "Grounding": (*phrases, f"det_file={lists / 'refcoco+' / 'dets.json'}", "embed_dim=16"),
            "Grounding_bbox": phrases,
            "Captioning": (
                *(*self._lists(train=f"{KARPATHY}_train.json", **written), f"image_root={raw}", *batches, once),
                *("num_beams=2", "max_length=12"),
            ),
        }

    def _lists(self, **names: str) -> tuple[str, ...]:
        folder = self.data / "lists"
        files = {key: ", ".join(str(folder / name) for name in each.split()) for key, each in names.items()}
        return tuple(f"{key}_file={f'[{each}]' if ', ' in each else each}" for key, each in files.items())

    def _pairs(self, name: str) -> tuple[str, ...]:
        named = ("images.image_key=image_rpath", "images.is_image_rpath=True")
        return f"train_file={self.data / 'lines' / name}", *named, "images.batch_size=16", f"image_root={self.data}"

    def _regions(self, *names: str) -> tuple[str, ...]:
        named = ("regions.image_key=image_rpath", "regions.is_image_rpath=True", f"image_root={self.data}")
        folders = ", ".join(str(self.data / "lines" / name) for name in names)
        return f"train_file_regions=[{folders}]", *named, "regions.batch_size=12", "regions.max_images=4"

    # Runs that several tests look at ---------------------------------------------------------------------

    @cached_property
    def vanilla(self) -> Run:
        """Two epochs of four iterations, two of which have a batch of regions."""
        return self.run("Pretrain")

    @property
    def pretrained(self) -> str:
        """What the downstream scripts start from."""
        return str(self.vanilla.directory / f"model_state_epoch_{EPOCHS - 1}.th")

    def arguments(self, script: str, output: Path, *items: str) -> list[str]:
        own = (*SMALL, f"text_encoder={self.language_model}", *self.items[script], *items)
        given = () if "--config" in own else ("--config", f"./configs/tiny/{script}.yaml")
        return [f"{script}.py", *given, "--output_dir", str(output), *own]
