"""The file of a backup: a tar of a library, with the hashes of all that is in it.

`SHA256SUMS` comes first and names every other member, as `sha256sum` writes it: `manifest.json`,
`library.sqlite`, and what is kept in `benchmarks/`. Unpacked into a folder it is a library.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.files import open_file, replacing
from rwkvsearch.indexer.tables import Table

FORMAT = 1
DATABASE = "library.sqlite"
RESULT = re.compile(r"benchmarks/[A-Za-z0-9][A-Za-z0-9._-]*\.json")
_SUMS, _MANIFEST = "SHA256SUMS", "manifest.json"
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")
_LARGEST_TEXT = 64 << 20  # bytes of the hashes, and of the manifest
_PART = 1 << 20  # bytes read at a time

Progress = Callable[[str, int, int], None]
"""What is being done, and how many bytes of how many are."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds: `rows` of each table, with the library's place and schema version.

    `last_ids` are of the tables whose ids only grow, even where the newest rows are gone.
    """

    made_at: str
    library: str
    rwkvsearch: str
    schema: int
    rows: dict[str, int]
    last_ids: dict[str, int] = field(default_factory=dict)


def write_backup(
    file: Path, manifest: Manifest, members: Mapping[str, Path], progress: Progress
) -> None:
    """Write a backup of files by their names in it, which takes the place of `file` once whole.

    Raises:
        OSError: it cannot be written, or a member cannot be read.
    """
    about = json.dumps({"format": FORMAT} | asdict(manifest), indent=2).encode() + b"\n"
    sizes = {name: path.stat().st_size for name, path in members.items()}
    total, done = 2 * sum(sizes.values()), 0

    def on_bytes(number: int) -> None:
        nonlocal done
        done += number
        progress("writing", done, total)

    hashes = {_MANIFEST: sha256(about).hexdigest()}
    for name, path in members.items():
        with path.open("rb") as source:
            hashes[name] = _copy(source, None, sizes[name], on_bytes)
    sums = "".join(f"{value}  {name}\n" for name, value in hashes.items()).encode()
    with (
        replacing(file) as target,
        tarfile.open(fileobj=target, mode="w:", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name, text in ((_SUMS, sums), (_MANIFEST, about)):
            tar.addfile(_info(name, len(text)), io.BytesIO(text))
        for name, path in members.items():
            with path.open("rb") as source:
                tar.addfile(_info(name, sizes[name]), _Counted(source, on_bytes))


@dataclass(frozen=True)
class _Member:
    info: tarfile.TarInfo
    sha256: str


class Backup:
    """A backup that is read; its members are verified as they are copied out of it."""

    def __init__(self, file: Path, tar: tarfile.TarFile, manifest: Manifest) -> None:
        """Use `open_backup`."""
        self.file = file
        self.manifest = manifest
        self._tar = tar
        self._members: dict[str, _Member] = {}

    @property
    def bytes(self) -> int:
        """Of all members together."""
        return sum(member.info.size for member in self._members.values())

    @property
    def results(self) -> list[str]:
        """The names of the kept results in it."""
        return [name for name in self._members if RESULT.fullmatch(name)]

    def copy(self, name: str, target: BinaryIO | None, on_bytes: Callable[[int], None]) -> None:
        """Write a member to `target`, None to verify it only.

        Raises:
            LibraryError: it is not what was written once.
            OSError: it cannot be written.
        """
        member = self._members[name]
        source = self._tar.extractfile(member.info)
        if source is None or _copy(source, target, member.info.size, on_bytes) != member.sha256:
            raise _damaged(self.file, f"{name} is not what was written")

    def verify(self, progress: Progress) -> None:
        """Read everything; raises `LibraryError` if anything is not what was written once."""
        done = 0

        def on_bytes(number: int) -> None:
            nonlocal done
            done += number
            progress("verifying", done, self.bytes)

        for name in self._members:
            self.copy(name, None, on_bytes)

    def _find(self, hashes: Mapping[str, str]) -> None:
        for info in self._tar:
            if info.name not in (_SUMS, _MANIFEST):
                expected = info.name == DATABASE or RESULT.fullmatch(info.name)
                if not expected or not info.isreg() or info.name in self._members:
                    raise _damaged(self.file, f"there should be no {info.name!r} in it")
                if info.name not in hashes:
                    raise _damaged(self.file, f"{info.name} has no hash")
                self._members[info.name] = _Member(info, hashes[info.name])
        if lost := sorted(hashes.keys() - self._members.keys() - {_MANIFEST}):
            raise _damaged(self.file, f"{lost[0]} is missing")
        if DATABASE not in self._members:
            raise _damaged(self.file, f"{DATABASE} is missing")


@contextmanager
def open_backup(file: Path) -> Iterator[Backup]:
    """A backup to read from; so far only what it says of itself is verified.

    Raises:
        LibraryError: it is no backup, damaged, or of a newer version.
    """
    try:
        stream = open_file(file)
    except OSError as error:
        raise LibraryError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        if not is_backup(file):
            raise LibraryError(f"{file} is no backup of a library")
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                hashes = _read_sums(file, tar)
                about = _text(file, tar, _MANIFEST)
                if sha256(about).hexdigest() != hashes.get(_MANIFEST):
                    raise _damaged(file, f"{_MANIFEST} is not what was written")
                backup = Backup(file, tar, _read_manifest(file, about))
                backup._find(hashes)
                yield backup
        except (tarfile.TarError, EOFError) as error:
            raise _damaged(file, str(error) or "it breaks off") from error


def is_backup(file: Path) -> bool:
    """Whether a file begins as a backup does."""
    try:
        with open_file(file) as stream:
            return stream.read(len(_SUMS) + 1) == f"{_SUMS}\0".encode()
    except OSError:
        return False


def _read_sums(file: Path, tar: tarfile.TarFile) -> dict[str, str]:
    text = _text(file, tar, _SUMS).decode("ascii", "replace")
    found = [_SUM.fullmatch(line) for line in text.splitlines()]
    if not all(found):
        raise _damaged(file, f"{_SUMS} cannot be read")
    return {match[2]: match[1] for match in found if match}


def _text(file: Path, tar: tarfile.TarFile, name: str) -> bytes:
    """The next member, which has to be the small file of this name."""
    info = tar.next()
    if info is None or info.name != name or not info.isreg() or info.size > _LARGEST_TEXT:
        raise _damaged(file, f"{name} cannot be read")
    source = tar.extractfile(info)
    return source.read() if source else b""


def _read_manifest(file: Path, text: bytes) -> Manifest:
    try:
        about: dict[str, Any] = json.loads(text)
        newer = about.pop("format") > FORMAT
        if not newer:
            return Manifest(**about)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(file, f"{_MANIFEST} cannot be read") from error
    raise too_new(file, about.get("rwkvsearch"))


def _copy(
    source: BinaryIO | Any, target: BinaryIO | None, size: int, on_bytes: Callable[[int], None]
) -> str:
    """Copy `size` bytes; their hash."""
    digest = sha256()
    while size > 0 and (part := source.read(min(size, _PART))):
        size -= len(part)
        digest.update(part)
        if target is not None:
            target.write(part)
        on_bytes(len(part))
    return digest.hexdigest()


class _Counted(io.RawIOBase):
    """Bytes that tell how many of them were read."""

    def __init__(self, source: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._source = source
        self._on_bytes = on_bytes

    def read(self, size: int = -1) -> bytes:
        part = self._source.read(size)
        self._on_bytes(len(part))
        return part


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


def too_new(file: Path, version: object) -> LibraryError:
    """What to say of a backup that this version cannot read."""
    return LibraryError(
        f"{file} was made by a newer rwkvsearch ({version}); upgrade with "
        "`pip install -U rwkvsearch`"
    )


def _damaged(file: Path, why: str) -> LibraryError:
    return LibraryError(f"{file} is damaged: {why}; take another backup")


def tables() -> Iterable[str]:
    """The tables of a library, those that others point to first."""
    return [table.name for table in Table.metadata.sorted_tables]


def room_error(file: Path, error: OSError) -> LibraryError:
    """What to say when a file cannot be written."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LibraryError(f"{file} cannot be written: {reason}")
