"""``python -m vlp.constraints FILE``: write the versions of this environment that setup.py leads to, for ``pip -c``.

Packages that are there for other reasons are left out; so is what differs between builds of torch: local labels
(``+cpu``), which only the index that has it knows, and the packages of its CUDA.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import setuptools  # noqa: F401  brings distutils where Python has none
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vlp.files import atomic_open, regular
from vlp.safe_output import make_output_safe

OF_CUDA = ("nvidia-", "cuda-", "triton")
SETUP = Path(__file__).resolve().parents[1] / "setup.py"
HEAD = """# The versions that the tests ran with, on Python {python} and {system}; docs/running.md says how to use them.
# Written by `make known-good`.
"""


def requirements(setup: Path = SETUP) -> list[Requirement]:
    """Everything that a ``setup.py`` asks for, extras included."""
    from distutils.core import run_setup

    found = run_setup(str(setup), stop_after="init")
    extras: Mapping[str, Iterable[str]] = found.extras_require  # type: ignore[attr-defined]
    texts = [*found.install_requires, *(text for each in extras.values() for text in each)]  # type: ignore[attr-defined]
    return [Requirement(text) for text in dict.fromkeys(texts)]


def installed(wanted: Iterable[Requirement]) -> dict[str, Version]:
    """Names and versions of what ``wanted`` and its own requirements lead to in this environment.

    Raises:
        PackageNotFoundError: one of ``wanted`` or of theirs is not installed.
    """
    versions: dict[str, Version] = {}
    pending = [(requirement, "") for requirement in wanted]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement, for_extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": for_extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name.startswith(OF_CUDA):
            continue
        found = distribution(name)
        versions[name] = Version(found.version)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                pending += [(Requirement(text), extra) for text in found.requires or ()]
    return versions


def text_of(versions: Mapping[str, Version]) -> str:
    """The lines of a constraints file, by name."""
    head = HEAD.format(python=platform.python_version(), system=platform.system())
    return head + "".join(f"{name}=={version.public}\n" for name, version in sorted(versions.items()))


def differences(versions: Mapping[str, Version], path: Path) -> list[str]:
    """A line for each package whose version is not that of the file."""
    pins = dict(line.split("==") for line in regular(path).read_text(encoding="utf-8").splitlines() if "==" in line)
    found = {name: version.public for name, version in versions.items()}
    names = sorted({*pins, *found})
    return [f"{n}: {pins.get(n, 'none')} -> {found.get(n, 'none')}" for n in names if pins.get(n) != found.get(n)]


def main(arguments: list[str] | None = None) -> int:
    """Write the file; 1 where something that setup.py asks for is not installed."""
    parser = argparse.ArgumentParser("python -m vlp.constraints", description=__doc__)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--differs", action="store_true", help="print what differs from FILE instead of writing it")
    options = parser.parse_args(arguments)
    path: Path = options.file
    try:
        versions = installed(requirements())
    except PackageNotFoundError as error:
        print(f"error: {error.name} is not installed here: make setup-test installs everything", file=sys.stderr)
        return 1
    if options.differs:
        print(f"{path} -> here:", *differences(versions, path), sep="\n")
        return 0
    try:
        with atomic_open(path) as handle:
            handle.write(text_of(versions).encode())
    except OSError as error:
        print(f"error: {path}: cannot be written ({error.strerror or error})", file=sys.stderr)
        return 1
    print(f"{path}: {len(versions)} packages")
    return 0


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
