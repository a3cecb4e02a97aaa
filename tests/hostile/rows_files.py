"""Config files, sacred's own commands and options, and what only one baseline has."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from tests.hostile.groups import CONFIG_FILES, NAMES, RELATIONS, SACRED, VALUES
from tests.hostile.rows_configuration import NUMBER, ONE, WHOLE
from tests.hostile.table import rows

# Behind ``with task data_root=… …``.
FILES = [
    *rows(
        CONFIG_FILES,
        2,
        {
            "empty.yaml": "config file empty.yaml: expected keys with values",
            "list.json": "config file list.json: expected keys with values",
            "half.json": "config file half.json: ",
            "binary.yaml": "config file binary.yaml: 'utf-8' codec",
            "tabs.yaml": "config file tabs.yaml: ",
            "folder.yaml": "config file folder.yaml: not a file",
            "fifo.yaml": "config file fifo.yaml: not a file",
            "nowhere.yaml": "config file nowhere.yaml: no such file",
            "a.toml": "config file a.toml: only .yaml, .yml and .json are read",
            "a.pickle": "config file a.pickle: only .yaml, .yml and .json are read",
            "a.ckpt": "config file a.ckpt: only .yaml, .yml and .json are read",
            ".": "config file .: only .yaml",
            "/": "config file /: only .yaml",
            "/dev/null": "config file /dev/null: only .yaml",
            "/dev/zero": "config file /dev/zero: only .yaml",
            "aliases.yaml": "config file aliases.yaml: more values than a configuration has",
            "itself.yaml": "config file itself.yaml: more values than a configuration has",
            "deep.json": "config file deep.json: more values in values than a configuration has",
            "deep.yaml": "config file deep.yaml: more values in values than a configuration has",
            "digits.json": "config file digits.json: ",
            "numbers.yaml": "config file numbers.yaml: the key 1 is not text",
            "date.yaml": "config file date.yaml: date is not among text",
            "object.yaml": "config file object.yaml: could not determine a constructor",
            "object.json": "config file object.json: 'py/reduce' names a Python object",
            "unknown.yaml": "config file unknown.yaml: unknown config key 'epic.mask_ration'; did you mean",
            "block.yaml": "config file block.yaml: unknown config key 'image_size.a': image_size has no keys",
            "short.yaml": "config file short.yaml: loss_names={'mlm': 1} lacks itm",
            "epic_vlm_sas": "epic_vlm_sas is a named config and a file or folder here",
            "epic_lm_cond": "epic_lm_cond is a named config and a file or folder here",
        },
    ),
    *rows(
        CONFIG_FILES,
        1,
        {
            "wrong.yaml": "image_size=0: expected a whole number",
            "seed.yaml": "seed='abc': expected a whole number",
            "nan.json": "learning_rate=nan: expected a number, above 0",
            "null.yaml": "epic=None: expected its own keys",
            "./nan.json seed=3": "learning_rate=nan: expected a number",
        },
    ),
]
# Whole command lines.
USAGE = [
    *rows(
        SACRED,
        2,
        {
            "with": "unknown command 'with'; a configuration stands behind with",
            "data_root=arrow": "unknown command 'data_root=arrow'; a configuration stands behind with",
            "print_confg": "unknown command 'print_confg'; did you mean 'print_config'?",
            "wiht seed=1": "'wiht seed=1': expected with key=value",
            "print_config with": "'print_config with': expected with key=value",
            "print_config seed=1": "'print_config seed=1': expected with key=value",
            "seed=1 with": "'seed=1 with': expected with key=value",
            "help nothing": "unknown command 'nothing'",
            "help help help": "expected with key=value",
            "--hlep": "'--hlep': expected with key=value",
            "--": "unknown command '--'",
            "--seed=1": "'--seed=1': expected with key=value",
            "with --seed=1": "'with --seed=1': expected with key=value",
            "with --seed 1": "'with --seed 1': expected with key=value",
            "with seed=1 -l": "'with seed=1 -l': expected with key=value",
            "with seed=1 -z": "'with seed=1 -z': expected with key=value",
            "with seed=1 -l NOISE": "--loglevel='NOISE': expected a number or DEBUG",
            "with seed=1 -b x": "--beat-interval='x': expected a number",
            "with seed=1 -P x": "--priority='x': expected a number",
            "with seed=1 -C x": "--capture='x': expected no, sys or fd",
            "with seed=1 -e": "--enforce_clean: the state of the repository is not looked at here",
            "with seed=1 -q": "--queue keeps the run in a database and trains nothing",
            "with seed=1 -m db": "--mongo_db needs the package pymongo",
            "with num_nosde=0 -f": "did you mean 'num_nodes'?",
        },
    ),
    *rows(
        SACRED,
        1,
        {
            "": ("data_root must be given", "per_gpu_batchsize must be given"),
            "with -l DEBUG image_size=0": "image_size=0: expected a whole number",
            "with image_size=0 -d": "image_size=0: expected a whole number",
            "with image_size=0 -D": "image_size=0: expected a whole number",
            "print_config with seed=abc": "seed='abc': expected a whole number",
        },
    ),
    *rows(
        SACRED,
        0,
        {
            "-h": "Usage:",
            "help": "Usage:",
            "help print_config": "Print the updated configuration",
            "print_config": "image_size = ",
            "print_named_configs": "epic_vlm_sas",
        },
    ),
]
METER = [
    *rows(
        VALUES,
        1,
        {
            "num_top_layer=0": f"num_top_layer=0: {ONE}",
            "input_text_embed_size=0": f"input_text_embed_size=0: {ONE}",
            "lr_mult_head=-1": f"lr_mult_head=-1: {NUMBER}",
            "init.text=": "init.text='': expected text, not empty",
        },
    ),
    *rows(
        RELATIONS,
        1,
        {
            "image_size=225": "image_size=225 is not a multiple of the patch size 32",
            "vit=ViT-B/16 image_size=200": "image_size=200 is not a multiple of the patch size 16",
            "vit=ViT-Tiny/16": "vit=ViT-Tiny/16 gives 128 channels, input_image_embed_size=768",
            "hidden_size=770": "hidden_size=770 is not a multiple of num_heads=12",
            "loss_names.vcr=1": "loss_names.vcr: only mlm, itm, irtr, vqa, nlvr2, snli",
        },
    ),
    *rows(NAMES, 2, {"lr_mult=2": "unknown config key 'lr_mult'; did you mean 'lr_mult_head'?"}),
]
VILT = [
    *rows(
        VALUES,
        1,
        {
            "image_size=31": f"image_size=31: {WHOLE}, at least 32",
            "max_image_len=-2": f"max_image_len=-2: {WHOLE}, at least -1",
            "num_layers=0": f"num_layers=0: {ONE}",
            "\"train_transform_keys=['clip']\"": "train_transform_keys=['clip']: expected a list",
            "\"datasets=['snli']\"": "datasets=['snli']: expected a list",
        },
    ),
    *rows(
        RELATIONS,
        1,
        {
            "max_image_len=0": "max_image_len=0 keeps no patch of an image",
            "hidden_size=32 num_heads=2": "vit=vit_base_patch32_384 has hidden_size=768 (here 32)",
        },
    ),
    *rows(NAMES, 2, {"num_top_layer=3": "unknown config key 'num_top_layer'"}),
]
BROKEN: dict[str, str | bytes] = {
    "empty.yaml": "",
    "list.json": "[1]",
    "half.json": '{"seed": ',
    "binary.yaml": b"\xff\xfe\0\1" * 10,
    "tabs.yaml": "epic:\n\tmask_ratio: 1\n",
    "a.toml": "seed = 1",
    "a.pickle": b"cposix\nsystem\n(S'touch ran'\ntR.",
    "a.ckpt": b"PK\3\4" + bytes(100),
    "a_file": "no folder",
    "itself.yaml": "epic: &a\n  mask_ratio: *a\n",
    "deep.json": '{"seed": ' * 200_000,
    "deep.yaml": "[" * 20_000,
    "digits.json": '{"seed": 1' + "0" * 5000 + "}",
    "numbers.yaml": "1: 2\n",
    "date.yaml": "seed: 2020-01-01\n",
    "object.yaml": "seed: !!python/object/apply:os.system ['touch ran']\n",
    "object.json": '{"seed": {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch ran"]}]}}',
    "unknown.yaml": "epic:\n  mask_ration: 1\n",
    "block.yaml": "image_size: {a: 1}\n",
    "short.yaml": "loss_names:\n  mlm: 1\n",
    "wrong.yaml": "image_size: 0\n",
    "seed.yaml": "seed: abc\n",
    "nan.json": '{"learning_rate": NaN}',
    "null.yaml": "epic:\n",
    "epic_vlm_sas": "",
}
KEYS = ("seed", "batch_size", "image_size", "patch_size", "max_text_len", "vocab_size", "mlm_prob", "hidden_size")


def write_config_files(folder: Path) -> None:
    """All files that the rows name."""
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    doubled = [f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]" for before, key in pairwise(KEYS)]
    (folder / "aliases.yaml").write_text("\n".join([f"{KEYS[0]}: &{KEYS[0]} [1, 1, 1, 1, 1, 1, 1, 1, 1]", *doubled]))
    (folder / "folder.yaml").mkdir()
    (folder / "epic_lm_cond").mkdir()
    os.mkfifo(folder / "fifo.yaml")
