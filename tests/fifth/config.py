"""The fifth baseline's configuration: the shared keys with its own defaults, and one key of its own."""

from typing import Any, ClassVar

from vlp.config.kinds import Positive
from vlp.config.schema import key, with_defaults
from vlp.sacred_dialect.config import new_experiment
from vlp.sacred_dialect.keys import SacredKeys, loss_names

# EPIC >
from epic_common.config import named_configs  # isort: skip
from epic_vlp.keys import with_epic_keys  # isort: skip
# < EPIC

TASKS = ("mlm", "itm", "irtr")


# EPIC >
@with_epic_keys
# < EPIC
@with_defaults(
    **{"exp_name": "fifth", "datasets": ["coco"], "loss_names": loss_names(TASKS, mlm=1, itm=1), "batch_size": 64},
    **{"train_transform_keys": ["vit"], "val_transform_keys": ["vit"], "image_size": 64, "patch_size": 16},
    **{"whole_word_masking": True, "hidden_size": 64, "num_heads": 4, "warmup_steps": 0.1, "max_steps": None},
)
class FifthKeys(SacredKeys):
    task_data: ClassVar = dict.fromkeys(TASKS, "caption")
    num_layers: Positive = key(3, "layers of the transformer")


RETRIEVAL = {"loss_names": loss_names(TASKS, irtr=1), "get_recall_metric": True, "draw_false_text": 15}
NAMED_CONFIGS: dict[str, Any] = {
    "task_pretrain": {"exp_name": "pretrain"},
    "task_finetune_irtr_coco": {"exp_name": "finetune_irtr_coco", **RETRIEVAL},
}
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
ex = new_experiment("Fifth", FifthKeys, NAMED_CONFIGS)
