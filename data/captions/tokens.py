"""Flickr's own files: `name.jpg#0<TAB>caption` a line, and split lists with a name a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rwkvsearch.data.captions.naming import split_of, title_of
from rwkvsearch.data.captions.sets import Entry, Gathered, Listing, read_text, refuse_repeated
from rwkvsearch.data.errors import DataError

LINE = re.compile(r"(?P<name>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)")


def read_tokens(file: Path) -> Listing:
    """The images of a token file; the lists of splits lie beside it, such as `testImages.txt`.

    An image in no list has no split; without any list nothing has.
    """
    gathered, keys = Gathered(), []
    for number, line in _lines(file):
        where = f"{file}: line {number}"
        found = LINE.fullmatch(line)
        if found is None or not found["caption"].strip():
            raise DataError(f"{where} is not `name.jpg#0<TAB>caption`")
        keys.append(f"{found['name'].strip()}#{found['number']}")
        gathered.add(found["name"].strip(), [found["caption"].strip()], None, where)
    refuse_repeated(f"{file}: the caption", keys)
    entries = gathered.entries()
    lists = split_lists(file)
    return Listing(title_of(file), _sorted_out(file, entries, lists) if lists else entries)


def split_lists(file: Path) -> dict[str, Path]:
    """The lists beside a token file, by split."""
    lists: dict[str, Path] = {}
    for path in sorted(file.parent.glob("*.txt")):
        split = split_of(path.stem)
        if split and path != file and _is_list(path):
            if split in lists:
                raise DataError(f"{path}: a second list of the split {split}, see {lists[split]}")
            lists[split] = path
    return lists


def _sorted_out(file: Path, entries: list[Entry], lists: dict[str, Path]) -> list[Entry]:
    """The entries with their splits; those of a list in its order."""
    left = {Path(entry.name).stem: entry for entry in entries}
    found: list[Entry] = []
    for split, path in lists.items():
        names = [line.strip() for _, line in _lines(path)]
        if not names:
            raise DataError(f"{path}: the split {split} is empty: lists no images")
        refuse_repeated(f"{path}: the image", names)
        for name in names:
            entry = left.pop(_stem(name), None)
            if entry is None:
                twice = any(_stem(name) == Path(other.name).stem for other in found)
                why = "is in another split too" if twice else f"has no caption in {file.name}"
                raise DataError(f"{path}: {name} {why}")
            found.append(Entry(entry.name, entry.captions, split))
    return found + list(left.values())


def _stem(name: str) -> str:
    """Lists of Flickr30k leave the suffix out."""
    return name if "." not in name else Path(name).stem


def _is_list(path: Path) -> bool:
    """Whether every line is one word, so that it can be the name of a file."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        first = [line.strip() for line in islice(stream, 20)]
    return not any(re.search(r"[\t,|#]|\S\s+\S", line) for line in first)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")
