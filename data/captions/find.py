"""Which file of a folder holds the captions, and in which layout, told by what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rwkvsearch.data.captions.naming import coco_split, split_of, stands_for
from rwkvsearch.data.captions.tables import find_header
from rwkvsearch.data.captions.tokens import LINE
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import IMAGE_SUFFIXES

Layout = Literal["json", "tokens", "table"]

LOOKED_FOR = (
    "Karpathy's dataset_*.json or samples.json; lists as of ALBEF and BLIP (*_test.json); COCO's "
    "captions_*.json, here or in annotations/; Flickr's *.token with lists of splits; csv, tsv or "
    "txt with a header such as image,caption; WebDataset *.tar"
)
_TEXTS = (".token", ".txt", ".csv", ".tsv")
_HEAD = 1 << 16  # bytes


@dataclass(frozen=True)
class Found:
    """A caption file; `whole` if it knows the splits of its images itself."""

    file: Path
    layout: Layout
    split: str | None = None
    whole: bool = False


def find_file(source: Path, split: str | None) -> Found | None:
    """The caption file that `source` is, or the one of a folder that has the split; None without.

    Raises:
        DataError: a file in no layout that is known here, or several that would do.
    """
    if source.is_file():
        return _layout_of(source)
    every = list(caption_files(source))
    found = _chosen(every, split)
    if len(found) > 1:
        names = ", ".join(str(one.file.relative_to(source)) for one in found)
        raise DataError(f"{source}: several caption files, name one of them: {names}")
    return found[0] if found else None


def caption_files(folder: Path) -> Iterator[Found]:
    """The caption files of a folder, told by their names and beginnings, without reading them."""
    named = sorted([*folder.glob("dataset_*.json"), *folder.glob("samples.json")])
    yield from (Found(file, "json", whole=True) for file in named)
    coco = sorted([*folder.glob("captions_*.json"), *folder.glob("annotations/captions_*.json")])
    yield from (Found(file, "json", coco_split(file)) for file in coco)
    for file in sorted(folder.glob("*.json")):
        if file not in named + coco and (found := _json_by_head(file)):
            yield found
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in _TEXTS):
        layout = None if _is_beside_picture(file) or ".lemma." in file.name else _text_by_head(file)
        if layout:
            yield Found(file, layout, split_of(file.stem) if layout == "table" else None)


def _chosen(every: list[Found], split: str | None) -> list[Found]:
    """Those that have the split by their name, else whole ones, else what is alike."""
    named = [one for one in every if split is not None and one.split == split]
    whole = [one for one in every if one.whole]
    for asked in [split] if split else ["test", "val"]:
        alike = [one for one in every if asked and stands_for(asked, one.split)]
        if found := named or whole or alike:
            return found
    return [one for one in every if one.layout == "tokens"] or every


def _layout_of(file: Path) -> Found:
    head = _head(file).lstrip()
    if file.suffix.lower() == ".json" or head[:1] in ("{", "["):
        return Found(file, "json", whole=True)
    layout = _text_by_head(file)
    if layout is None:
        raise DataError(f"{file}: no captions in a layout known here; looked for {LOOKED_FOR}")
    return Found(file, layout)


def _json_by_head(file: Path) -> Found | None:
    head = _head(file).lstrip()
    if head[:1] == "[" and '"image"' in head and '"caption"' in head:
        return Found(file, "json", split_of(file.stem))
    if head[:1] == "{" and '"images"' in head and '"sentences"' in head:
        return Found(file, "json", whole=True)
    return None


def _text_by_head(file: Path) -> Layout | None:
    first = next((line for line in _head(file).splitlines() if line.strip()), "")
    if LINE.fullmatch(first):
        return "tokens"
    return "table" if find_header(first) else None


def _is_beside_picture(file: Path) -> bool:
    return any(file.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)


def _head(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD).decode("utf-8-sig", "replace")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
