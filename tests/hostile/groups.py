"""The groups of rows: each is the first cell of a row of the table in docs/running.md, "What goes wrong"."""

from __future__ import annotations

# The command line
NAMES = "an unknown key or named config"
VALUES = "a value of another type, or out of range"
RELATIONS = "keys that contradict each other"
ITEMS = "an item that cannot be read"
FLAGS = "an unknown or wrong flag of ALBEF's and X-VLM's scripts"
ABSENT = "a file or folder that is not there"
CONFIG_FILES = "a config file that is none, or that holds more than plain values"
SACRED = "sacred's commands and options, misused"
NOTICES = "settings that are legal but hardly meant"
FIT = "wrong settings of `python -m epic_common.fit_lm`"
PATCHES = "`python -m patches`, of what is done already"
BENCHMARK = "wrong arguments of `python -m benchmarks.input_pipeline`"
# Data
RAW = "a raw download that is not as published"
OUTPUT = "an `--output` that cannot be written, or is in use"
TABLES = "a table that is absent, empty, damaged or of other columns"
LISTS = "a JSON list that is absent, empty or malformed"
LINES = "a file of JSON lines that is absent, empty or broken"
IMAGES = "an image that cannot be read, or of an extreme shape"
IDENTITY = "an `image_id` that is no official name"
# Weights
WEIGHTS = "a weights file that is none, unsafe or damaged"
NOT_FINITE = "NaN or infinite weights in a file that is loaded"
TEACHER = "a teacher that was itself trained with EPIC"
TOKENIZER = "a tokenizer or language model that is absent, cut or damaged"
HUB = "a hub name without a network"
CONVERT = "`python -m vlp.checkpoint convert` or `export` onto what is there"
BYTES = "a byte that changes on the disk, in a file that was written here"
# Runs
RESUME = "a run that goes on with another configuration"
LAST = "a `last.ckpt` that is broken"
START = "a start that contradicts `num_gpus` × `num_nodes`, or whose variables are wrong"
OWNER = "a folder that another run writes into"
LOGS = "a `log_dir` where nothing can be written"
