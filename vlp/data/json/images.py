"""The image files that JSON lists name: found under a root, which they may not leave."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from vlp.data.errors import DataError
from vlp.data.images import ImageError, decode_image
from vlp.files import regular


class ImageRoot:
    """The folder that the images of a list lie in.

    A name is joined to the root as the official code does it, so that an absolute one stays as it is. The file must
    lie in the root, links resolved, unless ``outside`` allows any.
    """

    def __init__(self, root: str | Path, key: str, outside: bool = False) -> None:
        """
        Args:
            root: the folder.
            key: the configuration key that names it, for messages.
            outside: whether files may lie elsewhere (``allow_outside_root``).

        Raises:
            DataError: there is no such folder.
        """
        self.root, self.key, self.outside = Path(root), key, outside
        if not self.root.is_dir():
            raise DataError(f"{key}={root}: no such folder; it must be the one that the lists' image names start from")
        self._base, self._real = os.path.abspath(self.root), os.path.realpath(self.root)

    def complaint(self, name: str) -> str | None:
        """That a name leads out of the root, found without looking at the disk; None if it does not."""
        if self.outside or (not name.startswith(os.sep) and ".." not in name):
            return None
        inside = _inside(os.path.normpath(os.path.join(self._base, name)), self._base)
        return None if inside else self._leaves(name)

    def path(self, name: str) -> str:
        """Where an image is to be."""
        return os.path.join(self._base, name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self.path(name))

    def read(self, name: str, where: str) -> Image.Image:
        """Decode an image of the row ``where`` to RGB.

        Raises:
            DataError: the file lies outside of the root.
            ImageError: it is missing or no readable image.
        """
        return decode_image(self.content(name, where), "RGB")

    def content(self, name: str, where: str) -> bytes:
        """The file of an image of the row ``where``.

        Raises:
            DataError: it lies outside of the root.
            ImageError: it is missing or cannot be read.
        """
        path = self.find(name, where)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror or error}") from error

    def find(self, name: str, where: str) -> Path:
        """The file of an image of the row ``where``.

        Raises:
            DataError: it lies outside of the root.
            ImageError: there is no such file.
        """
        path = self.path(name)
        if not self.outside and not _inside(os.path.realpath(path), self._real):
            raise DataError(f"{where}: {self._leaves(name)}")
        try:
            return regular(path)
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror}") from error

    def _leaves(self, name: str) -> str:
        return (
            f"the image {name!r} lies outside of {self.key}={self.root}: set {self.key} to a folder that holds all "
            "images, or allow_outside_root to true if you trust the list"
        )


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
