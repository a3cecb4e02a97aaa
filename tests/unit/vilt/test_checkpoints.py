"""ViLT's checkpoints: what fits is loaded whole, what does not is refused with the key to check.

Source: docs/official/vilt.md §8.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.small_parts import same_tensors, save
from tests.unit.vilt.small import SIZE, batch_of, config_of, image_pair, vilt
from vilt.modules.checkpoints import load_checkpoint
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import VisionTransformer
from vlp.checkpoint.convert import convert
from vlp.checkpoint.weights import WeightsError, sha256_of_file

RETRIEVAL = ("itm", "irtr")


def test_round_trip_under_official_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tasks = ("itm", "mlm", "mpp")
    source, target = vilt(tasks), vilt(tasks)
    assert not same_tensors(source, target)
    path = save(source, tmp_path)
    with caplog.at_level(logging.INFO):
        load_checkpoint(target, path)
    assert same_tensors(source, target)
    assert f"[load] {path}, " in caplog.text and sha256_of_file(path) in caplog.text
    assert "left as built" not in caplog.text


def test_the_official_position_ids_are_written_and_read_over(tmp_path: Path) -> None:
    """Buffer of official files: there on saving, neither wanted nor in the way on loading."""
    source, target = vilt(), vilt()
    state = source.state_dict()
    assert torch.equal(state["text_embeddings.position_ids"], torch.arange(20)[None])
    assert next(iter(state)) == "text_embeddings.position_ids"
    target.load_state_dict(state)
    without = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    torch.save({"state_dict": without}, tmp_path / "without.ckpt")
    target.load_state_dict(without)
    load_checkpoint(target, tmp_path / "without.ckpt")
    assert same_tensors(source, target)


def test_a_checkpoint_serves_images_of_any_size(tmp_path: Path) -> None:
    """The position table is interpolated at run time: no config key of an image's size touches the tensors."""
    source, target = vilt(), vilt(image_size=96, max_image_len=5)
    load_checkpoint(target, save(source, tmp_path))
    assert same_tensors(source, target)


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_a_converted_file_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    source, target = vilt(), vilt()
    convert(save(source, tmp_path), tmp_path / name, student=True)
    load_checkpoint(target, tmp_path / name)
    batch = batch_of([5, 7], sizes=[(3, 4), (2, 1)])
    assert torch.equal(source.infer(batch)["cls_feats"], target.infer(batch)["cls_feats"])


# Heads made from others ----------------------------------------------------------------------------------


def test_a_new_retrieval_model_ranks_with_the_matched_row_of_its_itm_head() -> None:
    config = config_of(RETRIEVAL)
    model = ViLTransformerSS(config, VisionTransformer(SIZE, config["mlp_ratio"], 0.0))
    assert torch.equal(model.rank_output.weight, model.itm_score.fc.weight[1:])
    assert torch.equal(model.rank_output.bias, model.itm_score.fc.bias[1:])


def test_a_pretraining_checkpoint_ranks_with_the_matched_row_of_its_itm_head(tmp_path: Path) -> None:
    source, target = vilt(("itm", "mlm")), vilt(RETRIEVAL)
    load_checkpoint(target, save(source, tmp_path))
    pair = source.infer(batch_of([5, 7]))["cls_feats"]
    assert torch.allclose(target.rank_output(pair)[:, 0], source.itm_score(pair)[:, 1])


def test_a_fine_tuned_checkpoint_keeps_its_ranking_head(tmp_path: Path) -> None:
    source, target = vilt(RETRIEVAL), vilt(RETRIEVAL)
    load_checkpoint(target, save(source, tmp_path))
    assert same_tensors(source, target)
    assert not torch.equal(target.rank_output.weight, target.itm_score.fc.weight[1:])


def test_the_second_image_starts_with_the_modality_of_the_first(tmp_path: Path) -> None:
    config = config_of(("nlvr2",))
    built = ViLTransformerSS(config, VisionTransformer(SIZE, config["mlp_ratio"], 0.0)).token_type_embeddings.weight
    assert len(built) == 3 and torch.equal(built[2], built[1])
    source, target = vilt(("itm",)), vilt(("nlvr2",))
    load_checkpoint(target, save(source, tmp_path))
    types = source.token_type_embeddings.weight
    assert torch.equal(target.token_type_embeddings.weight, types[[0, 1, 1]])
    batch = image_pair(batch_of([5, 4]))
    swapped = {**batch, "image_0": batch["image_1"], "image_1": batch["image_0"], "sizes": {}}
    assert torch.allclose(
        target.infer(batch, image_token_type_idx=2)["cls_feats"], target.infer(swapped)["cls_feats"], atol=1e-5
    )


def test_masked_patch_prediction_can_go_on_from_a_file_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = vilt(("itm", "mlm")), vilt(("itm", "mlm", "mpp"))
    missing = load_checkpoint(target, save(source, tmp_path))
    assert missing[0] == "transformer.mask_token" and all(name.startswith("mpp_score.") for name in missing[1:])
    assert "left as built: transformer.mask_token" in caplog.text


# Files of another model ----------------------------------------------------------------------------------


def other(**parts: Any) -> ViLTransformerSS:
    """A ViLT whose config or transformer differs in ``parts``."""
    size = SIZE._replace(**parts.get("size", {}))
    config = config_of(**{"hidden_size": size.width, **{key: value for key, value in parts.items() if key != "size"}})
    return ViLTransformerSS(config, VisionTransformer(size, config["mlp_ratio"], 0.0))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"size": {"width": 32}}, r"does not fit the model: .*Check vit, vocab_size, max_text_len, hidden_size"),
        ({"mlp_ratio": 3}, r"does not fit the model: transformer\.blocks\.0\.mlp\.fc1"),
        ({"max_text_len": 30}, r"position_embeddings\.weight: \(30, 16\) in the file, \(20, 16\) in the model"),
        ({"vocab_size": 50}, r"word_embeddings\.weight: \(50, 16\) in the file, \(40, 16\) in the model"),
        ({"size": {"patch_size": 8}}, r"patch_embed\.proj\.weight: \(16, 3, 8, 8\) in the file"),
        ({"size": {"grid": (3, 3)}}, r"pos_embed: \(1, 10, 16\) in the file, \(1, 5, 16\) in the model"),
        ({"size": {"layers": 4}}, r"also has \['transformer\.blocks\.3\..*another num_layers or encoder"),
        ({"size": {"layers": 2}}, r"lacks \['transformer\.blocks\.2\..*another num_layers or encoder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_checkpoints_of_another_architecture(parts: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"saved\.ckpt .*" + message):
        load_checkpoint(vilt(), save(other(**parts), tmp_path))


def test_a_file_that_says_its_config_names_the_keys_that_differ(tmp_path: Path) -> None:
    theirs = other(max_text_len=30)
    content = {"state_dict": theirs.state_dict(), "hyper_parameters": {"config": theirs.config}}
    torch.save(content, tmp_path / "run.ckpt")
    with pytest.raises(WeightsError, match=r"run\.ckpt does not fit .*has max_text_len=30 \(here 20\)$"):
        load_checkpoint(vilt(), tmp_path / "run.ckpt")


def test_a_checkpoint_of_meter_is_named(tmp_path: Path) -> None:
    keys = ["cross_modal_text_transform.weight", "token_type_embeddings.weight", "itm_score.fc.bias"]
    torch.save({"state_dict": {key: torch.randn(2) for key in keys}}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=r"other\.ckpt: its keys are those of METER, not of ViLT"):
        load_checkpoint(vilt(), tmp_path / "other.ckpt")
