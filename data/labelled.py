"""Labelled sets of photographs: folders named after classes, WebDataset shards, or a csv file.

A set with a fault is refused with its reason and never mended in silence: an accuracy over other
pictures or classes is another accuracy.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.files import is_file
from rwkvsearch.data.images import IMAGE_SUFFIXES, system_reason
from rwkvsearch.data.shards import find_shards, iterate_shards, read_classes

Layout = Literal["folders", "webdataset", "csv"]

_PATH_COLUMNS = ("path", "image", "file", "filename", "file_name", "filepath")
_LABEL_COLUMNS = ("label", "class", "category")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_LOOKED_FOR = "a folder of class folders, .tar shards of key.jpg + key.txt, or a .csv of path,label"


@dataclass(frozen=True)
class LabelledPicture:
    """One picture: what it is called, its label, and its file or the bytes of that."""

    name: str
    label: str
    source: Path | bytes

    def read(self) -> bytes:
        """The bytes of the file; `ImageError` where they cannot be read."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise ImageError(self.name, system_reason(error)) from error


@dataclass(frozen=True)
class LabelledSet:
    """Pictures with a label each; `labels` are the distinct ones, sorted, at least two.

    `pictures()` gives them anew each time, those of shards as they are read; `count` is None
    where it is not known before.
    """

    name: str
    layout: Layout
    labels: tuple[str, ...]
    count: int | None
    pictures: Callable[[], Iterator[LabelledPicture]]

    def spoken(self, label: str) -> str:
        """The label as a person writes it: in the name of a folder `_` stands for a space."""
        return label.replace("_", " ").strip() if self.layout == "folders" else label


def open_labelled(source: str | Path) -> LabelledSet:
    """Open a labelled set; what its layout is, is seen from what is there.

    A folder of folders: each of these is a class, with pictures at any depth. A `.tar`, a folder
    or a glob of them: WebDataset, the text is the label. A `.csv` or `.tsv`: a path and a label a
    row, with a header that names them or without one; paths are relative to the file.

    Raises `DataError` for what is none of these, a class folder without a picture, a picture
    without a class, listed twice or missing, and a set of fewer than two classes.
    """
    path = Path(source)
    if path.suffix.lower() in (".csv", ".tsv") and is_file(path):
        found = _from_table(path)
    elif path.is_dir() and not any(path.glob("*.tar")):
        found = _from_folders(path)
    elif not path.is_dir() and path.suffix != ".tar" and not set(str(path)) & set("*?["):
        raise DataError(f"{path}: no labelled set; looked for {_LOOKED_FOR}")
    else:
        found = _from_shards(source)
    if len(found.labels) < 2:
        raise DataError(f"{source}: holds the one class {found.labels[0]!r}: nothing to tell apart")
    return found


def set_name(source: str | Path) -> str:
    """What a person would call it: the file or folder, without wildcards and numbers."""
    name = Path(source).name
    for suffix in (".tar", ".csv", ".tsv"):
        name = name.removesuffix(suffix)
    return name.rstrip("*?[]0123456789-_.") or Path(source).absolute().parent.name or "set"


def _from_shards(source: str | Path) -> LabelledSet:
    find_shards(source)  # named in its own words where there are none

    def pictures() -> Iterator[LabelledPicture]:
        for item in iterate_shards(source):
            yield LabelledPicture(item.key, item.text, item.image)

    return LabelledSet(set_name(source), "webdataset", tuple(read_classes(source)), None, pictures)


def _from_folders(root: Path) -> LabelledSet:
    inside = sorted(path for path in root.iterdir() if path.name[0] != ".")
    folders = [path for path in inside if path.is_dir()]
    loose = [path for path in inside if _is_picture(path)]
    if not folders:
        raise DataError(f"{root}: no labelled set; looked for {_LOOKED_FOR}")
    if {folder.name.lower() for folder in folders} <= _SPLITS:
        raise DataError(f"{root}: holds splits, not classes: name one, such as {folders[0]}")
    if loose:
        raise DataError(
            f"{root}: pictures beside the class folders: {len(loose)}, the first is {loose[0].name}"
        )
    files = {folder.name: [*_pictures_below(folder)] for folder in folders}
    if empty := [name for name, paths in files.items() if not paths]:
        raise DataError(
            f"{root}: class folders without a picture: {len(empty)}, the first is {empty[0]}"
        )
    pairs = [(path, label) for label, paths in files.items() for path in paths]
    return _of_files(root, "folders", pairs)


def _from_table(file: Path) -> LabelledSet:
    rows = _rows(file)
    pairs = [(file.parent / name, label) for _, name, label in rows]
    seen: dict[str, int] = {}
    for line, name, _ in rows:
        if name in seen:
            twice = sum(count > 1 for count in Counter(name for _, name, _ in rows).values())
            raise DataError(
                f"{file}: line {line}: {name} is listed already in line {seen[name]} ({twice} such)"
            )
        seen[name] = line
    if missing := [path for path, _ in pairs if not is_file(path)]:
        count = f"{len(missing)} of {len(pairs)} pictures"
        raise DataError(f"{file}: {count} are missing, the first is {missing[0]}")
    return _of_files(file, "csv", pairs)


def _of_files(source: Path, layout: Layout, pairs: list[tuple[Path, str]]) -> LabelledSet:
    def pictures() -> Iterator[LabelledPicture]:
        return (LabelledPicture(str(path), label, path) for path, label in pairs)

    labels = tuple(sorted({label for _, label in pairs}))
    return LabelledSet(set_name(source), layout, labels, len(pairs), pictures)


def _rows(file: Path) -> list[tuple[int, str, str]]:
    """Line, path and label of each row."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a csv file in UTF-8: {error}") from error
    if not lines:
        raise DataError(f"{file}: lists no picture")
    columns = _columns(lines[0][1])
    if columns is None and any(len(row) != 2 for _, row in lines):
        bad = next(line for line, row in lines if len(row) != 2)
        raise DataError(f"{file}: line {bad}: not a path and a label, and no header names them")
    path, label = columns or (0, 1)
    found = []
    for line, row in lines[columns is not None :]:
        if len(row) <= max(path, label) or not row[path] or not row[label]:
            raise DataError(f"{file}: line {line}: lacks a path or a label")
        found.append((line, row[path], row[label]))
    if not found:
        raise DataError(f"{file}: lists no picture")
    return found


def _columns(header: list[str]) -> tuple[int, int] | None:
    """Where path and label stand, if this row is a header."""
    names = [name.lower() for name in header]
    path = next((names.index(name) for name in _PATH_COLUMNS if name in names), None)
    label = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    return None if path is None or label is None else (path, label)


def _pictures_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("[!.]*")) if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and is_file(path)
