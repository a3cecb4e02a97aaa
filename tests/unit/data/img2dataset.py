"""Small downloads as img2dataset writes them, in its three formats."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.unit.data.raw import image_bytes, write

FORMATS = ("files", "webdataset", "parquet")


class Link(NamedTuple):
    """A link of the list: what was found under it; ``status`` other than "success" has no image."""

    key: str
    image: bytes
    caption: str
    status: str = "success"


def links(shard: int, number: int, failed: Iterable[int] = ()) -> list[Link]:
    """``number`` links of a shard, those in ``failed`` without an image."""
    made = []
    for i in range(number):
        key, image = f"{shard:05d}{i:04d}", image_bytes(97 * shard + i)
        made.append(Link(key, image, f"caption {key}", "failed_to_download" if i in failed else "success"))
    return made


def record_of(link: Link) -> str:
    """The .json file beside an image."""
    return json.dumps({"caption": link.caption, "url": f"http://x/{link.key}", "key": link.key, "status": link.status})


def members_of(link: Link) -> list[tuple[str, bytes]]:
    """The members of a sample in a tar, in their order."""
    texts = {"json": record_of(link), "txt": link.caption}
    return [
        (f"{link.key}.jpg", link.image),
        *((f"{link.key}.{suffix}", text.encode()) for suffix, text in texts.items()),
    ]


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """A tar of plain files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_table(path: Path, shard: Sequence[Link], images: bool) -> None:
    """The Parquet file of a shard: all links; with ``images`` the images, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {
        "url": [f"http://x/{link.key}" for link in shard],
        "caption": [link.caption for link in shard],
        "key": [link.key for link in shard],
        "status": [link.status for link in shard],
    }
    if images:
        columns["jpg"] = [link.image if link.status == "success" else None for link in shard]
    kinds = [(name, pa.binary() if name == "jpg" else pa.string()) for name in columns]
    pq.write_table(pa.table(columns, pa.schema(kinds)), path, row_group_size=3)


def write_download(folder: Path, form: str, shards: Sequence[Sequence[Link]], table: bool = True) -> None:
    """A download of ``shards`` in one of :data:`FORMATS`; ``table``: with the Parquet files beside it."""
    for number, shard in enumerate(shards):
        got = [link for link in shard if link.status == "success"]
        if form == "parquet":
            write_table(folder / f"{number:05d}.parquet", shard, images=True)
        elif form == "webdataset":
            write_tar(folder / f"{number:05d}.tar", [member for link in got for member in members_of(link)])
        else:
            for link in got:
                for name, content in members_of(link):
                    write(folder / f"{number:05d}" / name, content)
        if table and form != "parquet":
            write_table(folder / f"{number:05d}.parquet", shard, images=False)
        write(folder / f"{number:05d}_stats.json", json.dumps({"count": len(shard), "successes": len(got)}))
