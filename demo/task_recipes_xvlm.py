"""The runs of X-VLM's downstream tasks on scenes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from demo.task_recipes import Recipe, TaskSettings
from demo.task_recipes_yaml import YamlTasks, at_rate, files, lists
from vlp.data.json.convert import convert
from vlp.data.jsonl.convert import Options
from vlp.data.jsonl.convert import convert as convert_lines
from vlp.files import read_json

LAYOUTS = ("vqa", "nlvr2", "refcoco+", "vg")
BATCH = 32
STAGE_RATE, BOX_RATE = 1e-3, 6e-4  # of boxes, which are learnt late
STAGE_RESULT = "model_state_epoch_latest.th"
SECONDS = {"zero_shot": 15, "VQA": 180, "NLVR": 180, "NLVR_pretrain": 40, "Grounding": 55, "Grounding_bbox": 800}
KARPATHY = "coco_karpathy/coco_karpathy"


class XvlmTasks(YamlTasks):
    """Lists for fine-tuning, JSON lines for pre-training on two streams and for the domain stages."""

    text_config: ClassVar = "text_config"

    def convert(self, settings: TaskSettings) -> None:
        data, coco, tasks = settings.data, settings.data / "coco", settings.data / "tasks"
        listed = (
            ("coco", coco),
            ("coco_karpathy", coco),
            *((name, tasks / name) for name in self.layouts if name != "vg"),
        )
        for name, root in listed:
            convert(name, root, lists(settings), image_root=data, quiet=True)
        options = Options(image_root=str(data), shards=1)
        streamed = {"vg": "vg_regions", "refcoco+": "refcoco_rm_leak"}
        convert_lines("coco", coco, lines(settings), options, quiet=True)
        for layout, name in streamed.items():
            if layout in self.layouts:
                convert_lines(name, tasks / layout, lines(settings), options, quiet=True)

    def learning(self, recipe: Recipe) -> list[str]:
        return at_rate(recipe)

    def text_encoder(self, folder: str) -> list[str]:
        return [f"text_encoder={folder}"]

    def seconds(self, settings: TaskSettings) -> Mapping[str, float]:
        return {"Pretrain": 46 * settings.pretrain_epochs, **SECONDS}

    def recipes(self, settings: TaskSettings) -> dict[str, Recipe]:
        output, folder = settings.output, lists(settings)
        root = f"image_root={settings.data}"
        one, two = f"batch_size={BATCH}", (f"batch_size_train={BATCH}", f"batch_size_test={BATCH}")
        pretrained = output / "Pretrain" / f"model_state_epoch_{settings.pretrain_epochs - 1}.th"
        pairs, regions = streams(settings)
        referred = region_stream(settings) if "refcoco+" in self.layouts else []
        start = ["init.vision=random", "init.text=pretrained", f"ckpt_frequent={settings.pretrain_epochs}"]
        ranked = [*files(settings, train="coco_train", val="coco_val", test="coco_test"), root, *two]
        ranked.append(f"k_test={min(20, settings.val_images, settings.test_images)}")
        # The test questions have no answers, as officially: those of val are asked.
        answers = [*files(settings, train="vqa_train", test="vqa_val"), f"answer_list={folder / 'answer_list.json'}"]
        answers += [*(f"{name}_root={settings.data}" for name in ("vqa", "vg")), *two, "start_eval=0"]
        statements = files(settings, train="nlvr_train", val="nlvr_dev", test="nlvr_test")
        expressions = files(settings, train="refcoco+_train", test="refcoco+_val refcoco+_test")
        found = [*expressions, f"refcoco_data={folder}", root, one]
        named = {f"{split}{gt}": f"{KARPATHY}_{split}{gt}" for split in ("val", "test") for gt in ("", "_gt")}
        captions = [*files(settings, train=f"{KARPATHY}_train", **named), root, *two, "max_length=40"]

        def stage(run: str) -> Path:
            return output / run / STAGE_RESULT

        return {
            "Pretrain": Recipe("Pretrain", None, settings.pretrain_epochs, [*pairs, *regions, *start]),
            "zero_shot": Recipe("Retrieval", pretrained, 0, ranked),
            "Retrieval": Recipe("Retrieval", pretrained, 2, ranked),
            "VQA": Recipe("VQA", pretrained, 1, answers),
            "NLVR_pretrain": Recipe("NLVR_pretrain", pretrained, 1, pairs),
            "NLVR": Recipe("NLVR", stage("NLVR_pretrain"), 4, [*statements, root, one]),
            "Grounding": Recipe("Grounding", pretrained, 1, [*found, f"det_file={folder / 'refcoco+' / 'dets.json'}"]),
            "Grounding_bbox_pretrain": Recipe("Grounding_bbox_pretrain", pretrained, 1, referred, rate=STAGE_RATE),
            "Grounding_bbox": Recipe("Grounding_bbox", stage("Grounding_bbox_pretrain"), 18, found, rate=BOX_RATE),
            "Captioning_pretrain": Recipe("Captioning_pretrain", pretrained, 1, [*pairs, "images.caption_key=caption"]),
            "Captioning": Recipe("Captioning", stage("Captioning_pretrain"), 1, captions),
        }


def lines(settings: TaskSettings) -> Path:
    """The folder of the JSON lines."""
    return settings.data / "lines"


def streams(settings: TaskSettings) -> tuple[list[str], list[str]]:
    """Items of the stream of captions, and of that of regions."""
    pairs = [*_stream(settings, "images", "coco"), f"image_root={settings.data}"]
    pairs.append(f"train_dataset_size={counted(settings, 'coco', 'rows')}")
    return pairs, [*_stream(settings, "regions", "vg_regions"), f"regions.max_images={BATCH // 2}"]


def region_stream(settings: TaskSettings) -> list[str]:
    """Items of the stream of RefCOCO's regions."""
    referred = [*_stream(settings, "regions", "refcoco_rm_leak"), f"image_root={settings.data}"]
    referred.append(f"regions.max_images={BATCH // 2}")
    return [*referred, f"train_dataset_size={counted(settings, 'refcoco_rm_leak', 'captions')}"]


def _stream(settings: TaskSettings, block: str, name: str) -> list[str]:
    key = "train_file_regions" if block == "regions" else "train_file"
    named = [f"{block}.image_key=image_rpath", f"{block}.is_image_rpath=True", f"{block}.batch_size={BATCH}"]
    return [f"{key}={lines(settings) / name}", *named]


def counted(settings: TaskSettings, name: str, what: str) -> int:
    """How many "rows" or "captions" the JSON lines of a data set have."""
    manifest = read_json(lines(settings) / f"{name}.manifest.json")
    return sum(file[what] for file in manifest["files"].values())


XVLM = XvlmTasks(
    tasks=("zero_shot", "Retrieval", "VQA", "NLVR", "Grounding", "Grounding_bbox", "Captioning"),
    needs={
        "NLVR": ("NLVR_pretrain", "NLVR"),
        "Grounding_bbox": ("Grounding_bbox_pretrain", "Grounding_bbox"),
        "Captioning": ("Captioning_pretrain", "Captioning"),
    },
    image_size=128,  # 16 patches of 32 pixels
    layouts=LAYOUTS,
    converted="lines/refcoco_rm_leak.manifest.json",
    listed=("coco", "vqa_train", "nlvr_train", "refcoco+_train"),
)
