"""Pictures inside a tar: where they begin, and the texts with the same key (WebDataset)."""

from __future__ import annotations

import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.metadata import Metadata
from rwkvsearch.data.remote import open_binary
from rwkvsearch.data.shards import refuse_cut_off
from rwkvsearch.data.sidecars import MAX_BYTES, SIDECAR_SUFFIXES, parse_sidecar
from rwkvsearch.data.walk import is_image_name


@dataclass(frozen=True)
class Member:
    """A picture in a shard: its name, where its bytes begin, how many there are, what is said.

    `beside` holds what the members with the same key tell, `a/b.txt` of `a/b.jpg`.
    """

    name: str
    offset: int
    size: int
    beside: tuple[Metadata, ...] = ()


@dataclass(frozen=True)
class Members:
    """The pictures of a shard in its order, and what is wrong with the rest of it, if anything."""

    pictures: tuple[Member, ...]
    faults: tuple[str, ...] = ()


def list_members(shard: Path) -> Members:
    """Read the headers of a plain tar; only the texts are read as a whole.

    A shard that ends too early gives the pictures before the cut. Hidden names are left out.

    Raises:
        OSError: it cannot be read.
    """
    pictures: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, list[Metadata]] = defaultdict(list)
    faults: list[str] = []
    with open_binary(shard) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for info in archive:
                    info.name = _below(info.name)
                    name = PurePosixPath(info.name).name
                    if not info.isreg() or name.startswith("."):
                        continue
                    if is_image_name(name):
                        pictures[info.name] = info  # of two with one name the last counts
                    elif name.lower().endswith(SIDECAR_SUFFIXES):
                        _read_text(archive, info, texts, faults)
                refuse_cut_off(shard, archive)
        except DataError as error:
            faults.append(str(error).removeprefix(f"{shard}: "))
        except (tarfile.TarError, EOFError) as error:
            what = " ".join(str(error).split())[:80]
            faults.append(f"not a whole tar, or a compressed one: {what}")
        end = stream.seek(0, 2)
    whole = [info for info in pictures.values() if info.offset_data + info.size <= end]
    if len(whole) < len(pictures):
        faults.append("truncated file")
    return Members(
        tuple(
            Member(i.name, i.offset_data, i.size, tuple(texts.get(_key(i.name), ()))) for i in whole
        ),
        tuple(faults),
    )


def read_member(shard: Path, offset: int, size: int) -> bytes:
    """The bytes of a member; fewer when the shard was cut.

    Raises:
        OSError: it cannot be read.
    """
    with open_binary(shard) as stream:
        stream.seek(offset)
        return stream.read(size)


def _below(name: str) -> str:
    """A name that stays inside the shard: neither absolute nor with a way up or a dot."""
    parts = (part for part in PurePosixPath(name).parts if part not in ("/", "//", ".", ".."))
    return "/".join(parts)


def _key(name: str) -> str:
    """The member's path up to the first dot of its last part, as WebDataset has it."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _read_text(
    archive: tarfile.TarFile,
    info: tarfile.TarInfo,
    texts: dict[str, list[Metadata]],
    faults: list[str],
) -> None:
    try:
        if info.size > MAX_BYTES:
            raise DataError(f"{info.name}: larger than {MAX_BYTES:,} bytes")
        content = archive.extractfile(info)
        assert content is not None
        texts[_key(info.name)].append(parse_sidecar(Path(info.name), content.read()))
    except DataError as error:
        faults.append(str(error))
