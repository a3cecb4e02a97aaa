"""The runs of ALBEF's downstream tasks on scenes."""

from __future__ import annotations

from demo.task_recipes import Recipe, TaskRecipes, TaskSettings
from vlp.data.json.convert import convert

LAYOUTS = ("vqa", "nlvr2", "snli", "refcoco+")
IMAGE_SIZE = 64
BATCH = 32
# Of so short a run: a momentum model that follows closely, no targets from it, and no features of older weights.
SHORT = ("momentum=0.9", f"queue_size={BATCH}")


def lists(settings: TaskSettings) -> None:
    """The converters that the real data sets go through."""
    tasks = settings.data / "tasks"
    for name, root in (("coco", settings.data / "coco"), *((name, tasks / name) for name in LAYOUTS)):
        convert(name, root, settings.lists, image_root=settings.data, quiet=True)


def learning(recipe: Recipe) -> list[str]:
    """How a run trains."""
    rates = [f"{block}.lr={recipe.rate}" for block in ("optimizer", "schedular")]
    return [f"schedular.epochs={recipe.epochs}", "schedular.warmup_epochs=0", *rates, "resume_from=auto"]


def recipes(settings: TaskSettings) -> dict[str, Recipe]:
    """By run."""
    lists, output, files = settings.lists, settings.output, settings.files
    root = f"image_root={settings.data}"
    one, two = f"batch_size={BATCH}", (f"batch_size_train={BATCH}", f"batch_size_test={BATCH}")
    start = ("alpha=0.0", "mlm_probability=0.3", "init.vision=random", "init.text=pretrained")
    pretrained = output / "Pretrain" / f"checkpoint_{settings.pretrain_epochs - 1:02d}.pth"
    pairs = [*files(train="coco"), root, one]
    ranked = [*files(train="coco_train", val="coco_val", test="coco_test"), root, *two, *SHORT, "k_test=20"]
    answers = [f"answer_list={lists / 'answer_list.json'}", f"vqa_root={settings.data}", *two]
    entailments = files(train="ve_train", val="ve_dev", test="ve_test")
    statements = files(train="nlvr_train", val="nlvr_dev", test="nlvr_test")
    expressions = files(train="refcoco+_train", test="refcoco+_val refcoco+_test")
    boxes = [f"refcoco_data={lists}", f"det_file={lists / 'refcoco+' / 'dets.json'}"]
    return {
        "Pretrain": Recipe("Pretrain", None, settings.pretrain_epochs, [*pairs, *SHORT, *start]),
        "zero_shot": Recipe("Retrieval", pretrained, 0, ranked),
        "Retrieval": Recipe("Retrieval", pretrained, 2, ranked),
        # The test questions have no answers, as officially: those of val are asked.
        "VQA": Recipe("VQA", pretrained, 1, [*files(train="vqa_train", test="vqa_val"), *answers]),
        "VE": Recipe("VE", pretrained, 3, [*entailments, root, *two]),
        "Pretrain_nlvr": Recipe("Pretrain_nlvr", pretrained, 1, pairs, "NLVR_pretrain"),
        "NLVR": Recipe("NLVR", output / "Pretrain_nlvr" / "checkpoint_00.pth", 4, [*statements, root, one]),
        "Grounding": Recipe("Grounding", pretrained, 1, [*expressions, *boxes, root, one, *SHORT]),
    }


ALBEF = TaskRecipes(
    tasks=("zero_shot", "Retrieval", "VQA", "VE", "NLVR", "Grounding"),
    needs={"NLVR": ("Pretrain_nlvr", "NLVR")},
    image_size=IMAGE_SIZE,
    layouts=LAYOUTS,
    convert=lists,
    converted="lists/refcoco+.manifest.json",
    texts=("coco", "vqa_train", "ve_train", "nlvr_train", "refcoco+_train"),
    recipes=recipes,
    learning=learning,
    text_encoder=lambda folder: ["--text_encoder", folder],
    text_config="bert_config",
    seconds=lambda settings: {"Pretrain": 25 * settings.pretrain_epochs, "zero_shot": 30},
)
