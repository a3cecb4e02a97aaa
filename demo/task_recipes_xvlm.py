"""The runs of X-VLM's downstream tasks on scenes."""

from __future__ import annotations

import json
from pathlib import Path

from demo.task_recipes import Recipe, TaskRecipes, TaskSettings
from vlp.data.json.convert import convert
from vlp.data.jsonl.convert import Options
from vlp.data.jsonl.convert import convert as convert_lines

LAYOUTS = ("vqa", "nlvr2", "refcoco+", "vg")
IMAGE_SIZE = 128  # 16 patches of 32 pixels
BATCH = 32
FASTER = 1e-3  # of boxes, which need what nothing before does: where a patch is
STAGE_RESULT = "model_state_epoch_latest.th"
SECONDS = {"zero_shot": 15, "VQA": 180, "NLVR": 180, "NLVR_pretrain": 40, "Grounding": 55, "Grounding_bbox": 220}
KARPATHY = "coco_karpathy/coco_karpathy"


def lists_and_lines(settings: TaskSettings) -> None:
    """The converters that the real data sets go through: lists for fine-tuning, JSON lines for pre-training."""
    data, coco, tasks = settings.data, settings.data / "coco", settings.data / "tasks"
    listed = (("coco", coco), ("coco_karpathy", coco), *((name, tasks / name) for name in LAYOUTS if name != "vg"))
    for name, root in listed:
        convert(name, root, settings.lists, image_root=data, quiet=True)
    options = Options(image_root=str(data), shards=1)
    for name, root in (("coco", coco), ("vg_regions", tasks / "vg"), ("refcoco_rm_leak", tasks / "refcoco+")):
        convert_lines(name, root, lines(settings), options, quiet=True)


def lines(settings: TaskSettings) -> Path:
    """The folder of the JSON lines."""
    return settings.data / "lines"


def counted(settings: TaskSettings, name: str, what: str) -> int:
    """How many "rows" or "captions" the JSON lines of a data set have."""
    manifest = json.loads((lines(settings) / f"{name}.manifest.json").read_text())
    return sum(file[what] for file in manifest["files"].values())


def learning(recipe: Recipe) -> list[str]:
    """How a run trains."""
    rates = [f"{block}.lr={recipe.rate}" for block in ("optimizer", "schedular")]
    return [f"schedular.epochs={recipe.epochs}", *rates, "resume_from=auto"]


def recipes(settings: TaskSettings) -> dict[str, Recipe]:
    """By run."""
    output, lists, last = settings.output, settings.lists, settings.pretrain_epochs - 1
    root = f"image_root={settings.data}"
    one, two = f"batch_size={BATCH}", (f"batch_size_train={BATCH}", f"batch_size_test={BATCH}")
    pretrained = output / "Pretrain" / f"model_state_epoch_{last}.th"

    def stage(run: str) -> Path:
        return output / run / STAGE_RESULT

    def stream(block: str, name: str) -> list[str]:
        key = "train_file_regions" if block == "regions" else "train_file"
        named = [f"{block}.image_key=image_rpath", f"{block}.is_image_rpath=True", f"{block}.batch_size={BATCH}"]
        return [f"{key}={lines(settings) / name}", *named]

    pairs = [*stream("images", "coco"), root, f"train_dataset_size={counted(settings, 'coco', 'rows')}"]
    images_of_regions = f"regions.max_images={BATCH // 2}"
    regions = [*stream("regions", "vg_regions"), images_of_regions]
    referred = [*stream("regions", "refcoco_rm_leak"), root, images_of_regions]
    referred += [f"train_dataset_size={counted(settings, 'refcoco_rm_leak', 'captions')}"]
    start = ["init.vision=random", "init.text=pretrained", f"ckpt_frequent={settings.pretrain_epochs}"]
    ranked = [*settings.files(train="coco_train", val="coco_val", test="coco_test"), root, *two]
    ranked.append(f"k_test={min(20, settings.val_images, settings.test_images)}")
    answers = [f"answer_list={lists / 'answer_list.json'}", *(f"{name}_root={settings.data}" for name in ("vqa", "vg"))]
    answers += [*two, "start_eval=0"]
    statements = settings.files(train="nlvr_train", val="nlvr_dev", test="nlvr_test")
    expressions = settings.files(train="refcoco+_train", test="refcoco+_val refcoco+_test")
    found = [*expressions, f"refcoco_data={lists}", root, one]
    named = {f"{split}{gt}": f"{KARPATHY}_{split}{gt}" for split in ("val", "test") for gt in ("", "_gt")}
    captions = [*settings.files(train=f"{KARPATHY}_train", **named), root, *two, "max_length=40"]
    return {
        "Pretrain": Recipe("Pretrain", None, settings.pretrain_epochs, [*pairs, *regions, *start]),
        "zero_shot": Recipe("Retrieval", pretrained, 0, ranked),
        "Retrieval": Recipe("Retrieval", pretrained, 2, ranked),
        # The test questions have no answers, as officially: those of val are asked.
        "VQA": Recipe("VQA", pretrained, 1, [*settings.files(train="vqa_train", test="vqa_val"), *answers]),
        "NLVR_pretrain": Recipe("NLVR_pretrain", pretrained, 1, pairs),
        "NLVR": Recipe("NLVR", stage("NLVR_pretrain"), 4, [*statements, root, one]),
        "Grounding": Recipe("Grounding", pretrained, 1, [*found, f"det_file={lists / 'refcoco+' / 'dets.json'}"]),
        "Grounding_bbox_pretrain": Recipe("Grounding_bbox_pretrain", pretrained, 1, referred, rate=FASTER),
        "Grounding_bbox": Recipe("Grounding_bbox", stage("Grounding_bbox_pretrain"), 5, found, rate=FASTER),
        "Captioning_pretrain": Recipe("Captioning_pretrain", pretrained, 1, [*pairs, "images.caption_key=caption"]),
        "Captioning": Recipe("Captioning", stage("Captioning_pretrain"), 1, captions),
    }


XVLM = TaskRecipes(
    tasks=("zero_shot", "Retrieval", "VQA", "NLVR", "Grounding", "Grounding_bbox", "Captioning"),
    needs={
        "NLVR": ("NLVR_pretrain", "NLVR"),
        "Grounding_bbox": ("Grounding_bbox_pretrain", "Grounding_bbox"),
        "Captioning": ("Captioning_pretrain", "Captioning"),
    },
    image_size=IMAGE_SIZE,
    layouts=LAYOUTS,
    convert=lists_and_lines,
    converted="lines/refcoco_rm_leak.manifest.json",
    texts=("coco", "vqa_train", "nlvr_train", "refcoco+_train"),
    recipes=recipes,
    learning=learning,
    text_encoder=lambda folder: [f"text_encoder={folder}"],
    text_config="text_config",
    seconds=lambda settings: {"Pretrain": 46 * settings.pretrain_epochs, **SECONDS},
)
