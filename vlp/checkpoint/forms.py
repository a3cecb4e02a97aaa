"""What a file is, by its kind and its first bytes, before anything reads it as weights."""

from __future__ import annotations

import itertools
import pickletools
import zipfile
from collections.abc import Iterable
from pathlib import Path

from vlp.checkpoint.errors import WeightsError
from vlp.files import regular

WEIGHTS = "model.safetensors"  # in a folder of ``python -m vlp.checkpoint export``
SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")  # of weights files
ZIP = b"PK\x03\x04"
# What torch.save wrote first before it wrote zip archives: a pickled number.
_OLD_TORCH = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file itself)"),
    (ZIP, "a zip archive, though none of torch.save's"),
    ((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf"), "compressed (unpack it first)"),
    (b"ARROW1", "an Arrow table"),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "an image"),
    (b"\x89HDF", "an HDF5 file"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a plain pickle, which is never unpickled"),
)
_MOST_OPCODES = 100_000  # of a plain pickle, that are searched for names
# What a pickle names that wants to run something: modules without data types, and functions. Names what is refused
# anyway, so that the advice for honest files is not given for these.
_COMMAND_MODULES = ("os", "posix", "nt", "sys", "subprocess", "runpy", "importlib", "shutil", "socket", "ctypes")
_COMMANDS = tuple(f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "getattr", "__import__"))


def weights_file(path: str | Path) -> Path:
    """``path``, or of an exported folder the file of its weights."""
    path = Path(path)
    return path / WEIGHTS if (path / WEIGHTS).is_file() else path


def existing_file(path: str | Path) -> Path:
    """:func:`weights_file` of ``path``, if something can be read there.

    Raises:
        WeightsError: nothing there, another folder, a device, a pipe or an empty file.
    """
    path = weights_file(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, expected a checkpoint file (or an exported folder, with {WEIGHTS})")
    if path.is_fifo() or path.is_socket() or path.is_char_device() or path.is_block_device():
        raise WeightsError(f"{path}: is a pipe, a socket or a device, expected a checkpoint file")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: is empty (0 bytes)")
    return path


def first_bytes(path: Path) -> bytes:
    """The first 512 bytes.

    Raises:
        WeightsError: the file cannot be opened.
    """
    try:
        with open(regular(path), "rb") as handle:
            return handle.read(512)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def is_safetensors(path: Path) -> bool:
    """By its suffix, as for every tool that reads them."""
    return path.suffix == ".safetensors"


def is_zip(path: Path) -> bool:
    """Whether torch takes it for an archive."""
    return first_bytes(path).startswith(ZIP)


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(regular(path)):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def refuse_other_forms(path: Path) -> None:
    """Refuse what begins as no file of torch.save, so that no unpickler sees it.

    Raises:
        WeightsError: saying what the file looks like, and what is expected.
    """
    head = first_bytes(path)
    if head.startswith(ZIP) or (head.startswith(b"\x80") and _OLD_TORCH in head[:32]):
        return
    if head.startswith(b"\x80") and (message := command_message(path, _named_in_pickle(path))):
        raise WeightsError(message)
    raise WeightsError(
        f"{path}: is {_appearance(head)}, not a checkpoint; expected a file of torch.save (.ckpt, .pt, .pth) or "
        "a .safetensors file"
    )


def _appearance(head: bytes) -> str:
    for beginnings, what in _BEGINNINGS:
        if head.startswith(beginnings):
            return what
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page (download the file itself)"
    if head[8:10] == b'{"':
        return "a .safetensors file under another suffix"
    if not head.strip(b"\0"):
        return "zeros alone (never written, or cut off by a crash)"
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    text = head.decode("utf-8", errors="ignore")  # the last character may be cut
    if len(text.encode()) > len(head) - 4 and all(letter.isprintable() or letter.isspace() for letter in text):
        return "a text file"
    return "no known form of weights"


def _named_in_pickle(path: Path) -> list[str]:
    """Classes and functions that a plain pickle names, found without unpickling it; the first ones of a broken one."""
    names, strings = set(), [""]
    try:
        with open(regular(path), "rb") as handle:
            for opcode, argument, _ in itertools.islice(pickletools.genops(handle), _MOST_OPCODES):
                if opcode.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings = [strings[-1], argument]
    except (ValueError, OSError):
        pass
    return sorted(names)


def command_message(path: str | Path, names: Iterable[str]) -> str | None:
    """Why ``path`` is refused if one of the pickled ``names`` runs something instead of holding data, else None."""
    commands = [name for name in names if name.split(".")[0] in _COMMAND_MODULES or name in _COMMANDS]
    if not commands:
        return None
    return f"{path}: wants to call {', '.join(commands)}, as a malicious file does; not loaded, nothing was run"
