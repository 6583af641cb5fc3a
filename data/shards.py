"""Labelled photographs in WebDataset shards: tars of `key.jpg` and `key.txt`."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rwkvsearch.data.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class LabelledImage:
    """One member of a shard: the undecoded image file and its text, stripped."""

    key: str
    image: bytes
    text: str


def find_shards(source: str | Path) -> list[Path]:
    """The tars that `source` names, sorted: one `.tar`, a folder of them, or a glob.

    Raises `DataError` when there is none.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
        looked_for = str(path / "*.tar")
    elif path.is_file():
        return [path]
    else:
        found, looked_for = _glob(path), str(path)
    if not found:
        raise DataError(f"no shards: nothing matches {looked_for} (tars of key.jpg + key.txt)")
    return found


def iterate_shards(source: str | Path) -> Iterator[LabelledImage]:
    """Every labelled image of the shards at `source` (see `find_shards`), in their order.

    A shard holds `key.jpg` (or jpeg, png, webp) and `key.txt` for each key, in any order; the key
    is the member's path up to its last dot. Other members are ignored. Each shard is checked
    before its first image is given.

    Raises `DataError` naming the shard: not a tar, truncated, empty, or a key that lacks a part,
    has one twice, or a text that is empty or not UTF-8. No shard at all is raised at once.
    """
    shards = find_shards(source)
    return (labelled for shard in shards for labelled in _read_shard(shard, with_image=True))


def read_classes(source: str | Path) -> dict[str, tuple[str, ...]]:
    """The classes of the shards at `source`: each distinct text, sorted, with its synonyms.

    A text such as `soda bottle, pop bottle` is one class with two names. Images are not read.

    Raises `DataError` as `iterate_shards` does, and for a text without a name.
    """
    shards = find_shards(source)
    labels = {entry.text for shard in shards for entry in _read_shard(shard, with_image=False)}
    classes = {text: split_label(text) for text in sorted(labels)}
    nameless = [text for text, names in classes.items() if not names]
    if nameless:
        raise DataError(f"{source}: the label {nameless[0]!r} holds no name")
    return classes


def split_label(text: str) -> tuple[str, ...]:
    """The synonyms of a class: `soda bottle, pop bottle` has two."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file with this content to a tar that is being written."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _glob(pattern: Path) -> list[Path]:
    """Files that match; the part before the first wildcard may hold `..` or be absolute."""
    parts = pattern.parts
    wild = next((n for n, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    if wild == len(parts):
        return []
    found = Path(*parts[:wild]).glob(str(Path(*parts[wild:])))
    return sorted(path for path in found if path.is_file())


def _read_shard(shard: Path, *, with_image: bool) -> Iterator[LabelledImage]:
    try:
        with tarfile.open(shard, "r:") as archive:
            pairs = _pairs(shard, archive)
            for key, (image, label) in pairs.items():
                text = _member(archive, label).decode()
                if not text.strip():
                    raise DataError(f"{shard}: {key}.txt is empty")
                content = _member(archive, image) if with_image else b""
                yield LabelledImage(key, content, text.strip())
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a whole tar: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{shard}: {label.name} is not UTF-8") from error
    except OSError as error:
        raise DataError(f"{shard}: cannot be read: {error.strerror or error}") from error


def _pairs(
    shard: Path, archive: tarfile.TarFile
) -> dict[str, tuple[tarfile.TarInfo, tarfile.TarInfo]]:
    """The image and the text of each key, in the order in which the keys appear."""
    parts: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in archive.getmembers():
        name = Path(member.name)
        suffix = name.suffix.lower()
        kind = "image" if suffix in IMAGE_SUFFIXES else "text" if suffix == ".txt" else None
        if kind is None or not member.isfile() or name.name.startswith("._"):
            continue
        key = str(name.with_suffix(""))
        if kind in parts.setdefault(key, {}):
            raise DataError(f"{shard}: the key {key} has two members for its {kind}")
        parts[key][kind] = member
    refuse_cut_off(shard, archive)
    if not parts:
        raise DataError(f"{shard}: holds no key.jpg + key.txt")
    for key, found in parts.items():
        if len(found) == 1:
            missing = "image" if "text" in found else "text"
            raise DataError(f"{shard}: the key {key} has no {missing}")
    return {key: (found["image"], found["text"]) for key, found in parts.items()}


def refuse_cut_off(shard: Path, archive: tarfile.TarFile) -> None:
    """tarfile stops in silence at a header that is cut or damaged; a whole tar ends in zeros."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{shard}: truncated or damaged after byte {archive.offset}")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    return content.read()
