"""``python -m reproduce foils``, false negatives and salient mass of checkpoints of every baseline, end to end."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from demo.baselines import BASELINES
from demo.settings import parse
from epic_common.metrics import EpicMetrics
from epic_vlp.attach import new_average
from epic_vlp.parts import settings_of
from reproduce.__main__ import main
from reproduce.figures.configuration import config_of
from reproduce.figures.models import Saliency
from reproduce.figures.models import load_judge as load_whole
from reproduce.figures.reading import READERS, Pair
from reproduce.miniature.corruptions import corruptions, held_out_captions
from reproduce.miniature.false_negatives import FATES, false_negatives
from reproduce.miniature.salient_mass import salient_mass
from reproduce.miniature.wrong_words import judged_foils
from scenes.coco_layout import TRUTH_FILE
from scenes.layout_files import image_file
from scenes.readings import read_truth
from tests.launch.test_demo import run_demo
from tests.unit.reproduce.tiny_checkpoints import scenes_in, tiny_checkpoint
from vlp.baseline import get_baseline
from vlp.checkpoint.weights import WeightsError, sha256_of_file
from vlp.nn.padding import PaddedLayout

SOME_SLOW = [name if name == "vilt" else pytest.param(name, marks=pytest.mark.slow) for name in BASELINES]


class Tiny:
    """A baseline's checkpoints on a few scenes."""

    def __init__(self, name: str, scenes: Path) -> None:
        self.name, self.scenes, self.baseline = name, scenes, get_baseline(name)
        self.truth = scenes / "raw" / TRUTH_FILE
        self.vanilla = tiny_checkpoint(name, scenes)
        self.epic = self.with_epic()

    def with_epic(self, *items: str) -> Path:
        own = ["epic.enabled=True", f"teacher_path={self.vanilla}"]
        return tiny_checkpoint(self.name, self.scenes, *own, *items, seed=1)

    def foils(self, checkpoint: Path, *argv: str, status: int = 0) -> dict[str, Any]:
        output = self.scenes / f"found_{checkpoint.stem}_{len(argv)}"
        given = ["--baseline", self.name, "--checkpoint", str(checkpoint), "--output", str(output), *argv]
        assert main(["foils", *given]) == status
        return json.loads((output / "foils.json").read_text()) if status == 0 else {}

    def false_negatives(self, checkpoint: Path, pairs: int, seed: int = 0, *changes: str) -> dict[str, Any]:
        reader, corrupted = corruptions(self.name, checkpoint, changes, self.truth, pairs, seed)
        return false_negatives(corrupted, reader.tokenizer.decode)

    def salient_mass(self, checkpoint: Path, pairs: int, *changes: str) -> float:
        return salient_mass([*corruptions(self.name, checkpoint, changes, self.truth, pairs, seed=0)[1]])

    def reader(self) -> Any:
        return READERS[self.name](config_of(self.baseline, self.epic, None, (), trains=False))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes_in(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module", params=SOME_SLOW)
def tiny(request: pytest.FixtureRequest, scenes: Path) -> Tiny:
    return Tiny(request.param, scenes)


def match_of(tiny: Tiny, model: Any, batch: dict[str, Any]) -> float:
    """The log-odds of a match by the model's own full pass over one pair."""
    with torch.no_grad():
        if tiny.name in ("meter", "vilt"):
            logits = model.itm_score(model.infer(batch)["cls_feats"])
        else:
            encoder = model.visual_encoder if tiny.name == "albef" else model.vision_encoder
            logits = model.itm_head(
                model.bert.first_states(batch["text_ids"], layout_of(batch), encoder(batch["image"]))
            )
    return float(logits[0, 1] - logits[0, 0])


def layout_of(batch: dict[str, Any]) -> Any:
    return PaddedLayout(batch["text_masks"].bool())


def test_foils_of_scenes_are_judged_by_both_heads(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    found = tiny.foils(tiny.epic, "--scenes", str(tiny.scenes / "raw"))
    shown = capsys.readouterr().out
    assert "token AUROC" in shown and "foils: 3/3 images" in shown
    assert found["checkpoint"]["sha256"] == sha256_of_file(tiny.epic)
    assert found["command"].startswith("python -m reproduce") and found["baseline"] == tiny.name
    rows = found["foils"]
    records = [each for each in read_truth(tiny.truth) if each["split"] == "test"]
    assert len(rows) == found["all"]["foils"] == sum(len(c["foils"]) for r in records for c in r["captions"]) > 10
    fields = Counter(s["field"] for r in records for c in r["captions"] for s in c["spans"] if s["salient"])
    assert {name: numbers["foils"] for name, numbers in found["fields"].items()} == dict(fields)

    # Token by token as Fig. 5 has it, from one pair at a time.
    reader = tiny.reader()
    config = config_of(tiny.baseline, tiny.epic, None, (), trains=False)
    model = load_whole(tiny.baseline, config, tiny.epic, reader)
    for row in rows[::4]:
        pair = reader(Path(row["image"]).read_bytes(), row["foil"])
        logits = BASELINES[tiny.name].judge(model, dict(pair.batch), pair.ids).logits[0].detach()
        log_d = torch.nn.functional.logsigmoid(logits)[pair.maskable].tolist()
        assert row["log_d"] == pytest.approx(log_d, abs=1e-4)
        assert row["itc"]["foil"] == pytest.approx(sum(log_d) / len(log_d), abs=1e-4)
        assert row["itm"]["foil"] == pytest.approx(match_of(tiny, model, dict(pair.batch)), abs=1e-4)
        assert len(row["replaced"]) == 1  # every word of the captions is a token
        token = int(pair.ids[0][pair.maskable][row["replaced"][0]])
        assert str(reader.tokenizer.decode([token])).strip().lower() not in row["caption"].lower().split()

    assert found["all"] == judged_foils(tiny.name, tiny.epic, tiny.scenes / "raw")
    of = {True: list[float](), False: list[float]()}
    for row in rows:
        for i, value in enumerate(row["log_d"]):
            of[i in row["replaced"]].append(value)
    won = [(wrong < right) + (wrong == right) / 2 for wrong, right in product(of[True], of[False])]
    assert found["all"]["itc"]["auroc"] == pytest.approx(sum(won) / len(won))
    for head in ("itc", "itm"):
        first = sum(row[head]["caption"] > row[head]["foil"] for row in rows)
        assert found["all"][head]["accuracy"] == pytest.approx(100 * first / len(rows))


def test_a_vanilla_checkpoint_has_its_itm_head_alone(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "images" / "a.jpg"
    image.parent.mkdir()
    image.write_bytes(image_file(tiny.truth.parent, read_truth(tiny.truth)[0]).read_bytes())
    entry = {"filename": image.name, "caption": "A red ball.", "negative_caption": "A blue ball."}
    path = tmp_path / "swap_att.json"
    path.write_text(json.dumps({"0": entry, "1": {**entry, "negative_caption": "Two red balls."}}))
    asked = ["--pairs", str(path), "--images", str(image.parent)]
    found = tiny.foils(tiny.vanilla, *asked, "--limit", "1")
    assert "without EPIC: its ITM head alone judges" in capsys.readouterr().out
    assert found["all"]["itc"] is None and found["all"]["itm"]["accuracy"] in (0.0, 50.0, 100.0)
    assert list(found["fields"]) == ["swap_att"] and found["foils"][0]["itc"] is None and len(found["foils"]) == 1
    image.write_bytes(image.read_bytes()[:100])
    tiny.foils(tiny.vanilla, *asked, status=1)
    assert f"error: --pairs {path}, entry '0', image {image}: " in capsys.readouterr().err


def salient_tokens(pair: Pair, caption: dict[str, Any]) -> list[int]:
    """By counting words, each of which is a token; METER and ViLT have commas and full stops as tokens besides."""
    salient = {caption["raw"][:start].count(" ") for start, _ in caption["salient"]}
    words = [i for i, (start, end) in enumerate(pair.spans) if pair.text[start:end].strip().isalnum()]
    assert len(words) == len(caption["raw"].split())  # nothing is cut
    return [words[place] for place in salient]


def test_the_mass_on_salient_words_is_that_of_the_teacher(tiny: Tiny) -> None:
    rows = held_out_captions(read_truth(tiny.truth), tiny.truth, 5)
    reader = tiny.reader()
    config = config_of(tiny.baseline, tiny.vanilla, None, (), trains=False)
    saliency = Saliency.of_checkpoint(tiny.baseline, config, tiny.vanilla, reader)
    by_saliency, by_count = list[float](), list[float]()
    for record, caption in rows:
        pair = reader(image_file(tiny.truth.parent, record).read_bytes(), caption["raw"])
        told, alpha = salient_tokens(pair, caption), saliency.alpha(pair)
        by_saliency.append(sum(alpha[i] for i in told))
        by_count.append(len(told) / int(pair.maskable.sum()))
    found = tiny.salient_mass(tiny.epic, 5)
    assert found == pytest.approx(sum(by_saliency) / 5, abs=1e-5)
    uniform = tiny.salient_mass(tiny.epic, 5, "epic.masking=uniform")
    assert uniform == pytest.approx(sum(by_count) / 5) != found


def test_corruptions_are_drawn_by_the_seed(tiny: Tiny) -> None:
    found = [tiny.false_negatives(tiny.epic, 99, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    for each in found:
        assert each["pairs"] == 12 and each["replaced"] == sum(each[fate] for fate in FATES)
        assert each["share"] == each["kept_true"] / each["replaced"]
    reader, most = tiny.reader(), 0
    for record, caption in held_out_captions(read_truth(tiny.truth), tiny.truth, 99):
        pair = reader(image_file(tiny.truth.parent, record).read_bytes(), caption["raw"])
        most += math.ceil(Fraction(35, 100) * int(pair.maskable.sum()))
    assert 0.8 * most < found[0]["replaced"] <= most  # f_L is not trained: it seldom draws the original


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiny", "variant"),
    [
        (name, variant)
        for name in BASELINES
        for variant in ("itc_rand", "itc_lm", "lm_fixed", "lm_cond", "vlm_sas")
        if (name, variant) != ("vilt", "lm_cond")  # ViLT encodes no image before the fusion
    ],
    indirect=["tiny"],
)
def test_every_generator_has_its_false_negatives(tiny: Tiny, variant: str) -> None:
    items = {
        "itc_rand": ["epic.masking=uniform", "epic.replacement=uniform"],
        "itc_lm": ["epic.masking=uniform"],
        "lm_fixed": ["epic.generator_training=fixed"],
        "lm_cond": ["epic.image_conditioned=True"],
        "vlm_sas": ["epic.replacement=vlm"],
    }[variant]
    checkpoint = tiny.with_epic(*items)
    if variant == "vlm_sas":
        with pytest.raises(WeightsError, match="lacks the state of its run, and so the snapshot"):
            tiny.false_negatives(checkpoint, 4)
        with_state(checkpoint, snapshot={"refreshed_at": 0, "weights": None})
    found = tiny.false_negatives(checkpoint, 4)
    assert found["pairs"] == 4 and found["replaced"] > 5


@pytest.mark.slow
def test_maskings_without_a_teacher_have_their_mass(tiny: Tiny) -> None:
    surprise = tiny.with_epic("epic.masking=surprise")
    assert 0 < tiny.salient_mass(surprise, 5) < 1

    frequency = tiny.with_epic("epic.masking=frequency")
    size = len(tiny.reader().tokenizer)
    counts = torch.arange(size) % 7
    with_state(frequency, token_counts=counts)
    masses = list[float]()
    for record, caption in held_out_captions(read_truth(tiny.truth), tiny.truth, 5):
        pair = tiny.reader()(image_file(tiny.truth.parent, record).read_bytes(), caption["raw"])
        weights = [float(real) / (1 + int(counts[i])) for i, real in zip(pair.ids[0], pair.maskable, strict=True)]
        masses.append(sum(weights[i] for i in salient_tokens(pair, caption)) / sum(weights))
    found = tiny.salient_mass(frequency, 5)
    assert found == pytest.approx(sum(masses) / 5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", ["meter", "vilt", "xvlm"], indirect=True)  # ALBEF's is among its weights
def test_the_average_of_a_run_masks_as_the_checkpoint_has_it(tiny: Tiny) -> None:
    student = tiny.with_epic("epic.teacher=momentum")
    vanilla = torch.load(tiny.vanilla, weights_only=True)["state_dict"]
    with_state(student, average={"step": 160, "weights": of_teacher(tiny, vanilla)})
    # The vanilla model as the average masks as it does as the teacher.
    by_average, by_teacher = (tiny.salient_mass(each, 5) for each in (student, tiny.epic))
    assert by_average == pytest.approx(by_teacher, abs=1e-6)


def of_teacher(tiny: Tiny, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint that a teacher has, too."""
    config = config_of(tiny.baseline, tiny.epic, None, ("epic.teacher=momentum",), trains=False)
    settings = settings_of(tiny.baseline, config)
    average = new_average(tiny.baseline, config, settings)
    return {name: state[name] for name in average.module.state_dict()}


def with_state(checkpoint: Path, **state: Any) -> None:
    """Leave what a run with EPIC leaves beside its weights; ``state`` are its keys."""
    content = torch.load(checkpoint, weights_only=True)
    metrics = EpicMetrics().state_dict()
    content["epic"] = {
        **{"rng": [torch.empty(0, dtype=torch.uint8)], "metrics": [metrics], "logged_step": 0},
        **{"snapshot": None, "teacher_sha256": "", **state},
    }
    torch.save(content, checkpoint)


def test_a_checkpoint_without_epic_corrupts_nothing(tiny: Tiny) -> None:
    with pytest.raises(WeightsError, match="was trained without EPIC and corrupts no caption"):
        tiny.false_negatives(tiny.vanilla, 4)
    with pytest.raises(WeightsError, match="lacks epic"):
        tiny.false_negatives(tiny.vanilla, 4, 0, "epic.enabled=True", f"teacher_path={tiny.vanilla}")


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_what_official_commands_left_on_scenes_is_asked(baseline: str, tmp_path: Path) -> None:
    made = run_demo(baseline, tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    about, settings = BASELINES[baseline], parse(["--baseline", baseline, "--output", str(tmp_path)])
    epic, raw = about.checkpoint(settings, "epic"), tmp_path / "data" / "raw"
    command = ["foils", "--baseline", baseline, "--checkpoint", str(epic), "--scenes", str(raw)]
    assert main([*command, "--limit", "9", "--output", str(tmp_path / "found")]) == 0
    found = json.loads((tmp_path / "found" / "foils.json").read_text())["all"]
    assert found["foils"] == 9 and 0 <= found["itc"]["auroc"] <= 1 and 0 <= found["itm"]["accuracy"] <= 100
    reader, corrupted = corruptions(baseline, epic, (), raw / TRUTH_FILE, 9, seed=0)
    by_teacher = [*corrupted]
    false = false_negatives(by_teacher, reader.tokenizer.decode)
    assert false["pairs"] == 9 and false["replaced"] > 5
    uniform = [*corruptions(baseline, epic, ["epic.masking=uniform"], raw / TRUTH_FILE, 9, seed=0)[1]]
    masses = salient_mass(by_teacher), salient_mass(uniform)
    assert 0 < masses[0] < 1 and 0 < masses[1] < 1 and masses[0] != masses[1]
