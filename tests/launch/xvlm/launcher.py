"""Drive X-VLM's scripts as a user does, on scenes in the layout of every task."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tests.launch.yaml_launcher import Run, YamlLauncher, last_of

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


class XvlmLauncher(YamlLauncher):
    """Runs command lines of X-VLM's scripts with a small model; ``cold`` ones in a fresh Python.

    Args:
        data: holds ``raw`` (COCO's layout), ``tasks`` (those of the others), ``lines``, ``lists`` and ``bert-tiny``.
    """

    def __init__(self, data: Path, logs: Path) -> None:
        super().__init__("xvlm", logs)
        self.data, self.language_model = data, data / "bert-tiny"
        lines, lists = data / "lines", data / "lists"
        captions = lists / "coco_karpathy"
        rows = [
            f"{name}.{key}"
            for name in ("images", "regions")
            for key in ("image_key=image_rpath", "is_image_rpath=True")
        ]
        pairs = (f"train_file={lines / 'coco'}", *rows[:2], "images.batch_size=16", f"image_root={data}")
        regions = (f"train_file_regions={lines / 'vg_regions'}", *rows[2:], "regions.batch_size=12")
        epochs = f"schedular.epochs={EPOCHS}"
        self.items: dict[str, tuple[str, ...]] = {
            "Pretrain": (
                *(*pairs, *regions, f"train_dataset_size={16 * ITERATIONS}", "embed_dim=16", epochs),
                *("regions.max_images=4", "ckpt_frequent=1"),
            ),
            "VQA": (
                *(f"train_file={lists / 'vqa_train.json'}", f"test_file={lists / 'vqa_test.json'}"),
                *(
                    f"answer_list={lists / 'answer_list.json'}",
                    f"vqa_root={data / 'tasks/vqa'}",
                    f"vg_root={data / 'tasks/vqa'}",
                ),
                *("k_test=8", "batch_size_train=32", "schedular.epochs=1"),
            ),
            "Captioning_pretrain": (
                *(*pairs, "images.caption_key=caption", f"train_dataset_size={16 * ITERATIONS}"),
                "schedular.epochs=1",
            ),
            "Captioning": (
                *(f"{part}_file={captions / f'coco_karpathy_{part}.json'}" for part in ("train", "val", "test")),
                *(f"{part}_gt_file={captions / f'coco_karpathy_{part}_gt.json'}" for part in ("val", "test")),
                *(f"image_root={data / 'raw'}", "batch_size_train=16", "batch_size_test=3", "schedular.epochs=1"),
            ),
        }

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
        own = last_of((*SMALL, f"text_encoder={self.language_model}", *self.items[script], *items))
        given = () if "--config" in own else ("--config", f"./configs/tiny/{script}.yaml")
        return [f"{script}.py", *given, "--output_dir", str(output), *own]
