"""The runs of ALBEF's downstream tasks on scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from demo.task_recipes import Recipe, TaskSettings
from demo.task_recipes_yaml import YamlTasks, at_rate, files, lists
from vlp.data.json.convert import convert

LAYOUTS = ("vqa", "nlvr2", "snli", "refcoco+")
BATCH = 32
# Of so short a run: a momentum model that follows closely, no targets from it, and no features of older weights.
SHORT = ("momentum=0.9", f"queue_size={BATCH}")


class AlbefTasks(YamlTasks):
    """Pre-training on captions alone."""

    text_config: ClassVar = "bert_config"

    def convert(self, settings: TaskSettings) -> None:
        tasks = settings.data / "tasks"
        for name, root in (("coco", settings.data / "coco"), *((name, tasks / name) for name in self.layouts)):
            convert(name, root, lists(settings), image_root=settings.data, quiet=True)

    def learning(self, recipe: Recipe) -> list[str]:
        return at_rate(recipe, "schedular.warmup_epochs=0")

    def text_encoder(self, folder: str) -> list[str]:
        return ["--text_encoder", folder]

    def seconds(self, settings: TaskSettings) -> Mapping[str, float]:
        return {"Pretrain": 25 * settings.pretrain_epochs, "zero_shot": 30}

    def recipes(self, settings: TaskSettings) -> dict[str, Recipe]:
        folder, output = lists(settings), settings.output
        root = f"image_root={settings.data}"
        one, two = f"batch_size={BATCH}", (f"batch_size_train={BATCH}", f"batch_size_test={BATCH}")
        start = ("alpha=0.0", "mlm_probability=0.3", "init.vision=random", "init.text=pretrained")
        pretrained = output / "Pretrain" / f"checkpoint_{settings.pretrain_epochs - 1:02d}.pth"
        pairs = [*files(settings, train="coco"), root, one]
        ranked = [*files(settings, train="coco_train", val="coco_val", test="coco_test"), root, *two, *SHORT]
        ranked.append("k_test=20")
        # The test questions have no answers, as officially: those of val are asked.
        questions = [*files(settings, train="vqa_train", test="vqa_val"), f"answer_list={folder / 'answer_list.json'}"]
        entailments = files(settings, train="ve_train", val="ve_dev", test="ve_test")
        statements = files(settings, train="nlvr_train", val="nlvr_dev", test="nlvr_test")
        expressions = files(settings, train="refcoco+_train", test="refcoco+_val refcoco+_test")
        boxes = [f"refcoco_data={folder}", f"det_file={folder / 'refcoco+' / 'dets.json'}"]
        return {
            "Pretrain": Recipe("Pretrain", None, settings.pretrain_epochs, [*pairs, *SHORT, *start]),
            "zero_shot": Recipe("Retrieval", pretrained, 0, ranked),
            "Retrieval": Recipe("Retrieval", pretrained, 2, ranked),
            "VQA": Recipe("VQA", pretrained, 1, [*questions, f"vqa_root={settings.data}", *two]),
            "VE": Recipe("VE", pretrained, 3, [*entailments, root, *two]),
            "Pretrain_nlvr": Recipe("Pretrain_nlvr", pretrained, 1, pairs, "NLVR_pretrain"),
            "NLVR": Recipe("NLVR", output / "Pretrain_nlvr" / "checkpoint_00.pth", 4, [*statements, root, one]),
            "Grounding": Recipe("Grounding", pretrained, 1, [*expressions, *boxes, root, one, *SHORT]),
        }


ALBEF = AlbefTasks(
    tasks=("zero_shot", "Retrieval", "VQA", "VE", "NLVR", "Grounding"),
    needs={"NLVR": ("Pretrain_nlvr", "NLVR")},
    image_size=64,
    layouts=LAYOUTS,
    converted="lists/refcoco+.manifest.json",
    listed=("coco", "vqa_train", "ve_train", "nlvr_train", "refcoco+_train"),
)
