"""Tables with a header: csv, tsv, Kaggle's `results.csv`, and CLIP_benchmark's `name.jpg,caption`.

The columns are told by their names; there may be a row an image, a row a caption, or a cell with
a JSON list of captions.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkvsearch.data.captions.naming import split_of, title_of
from rwkvsearch.data.captions.sets import Gathered, Listing, read_text, refuse_repeated, text_of
from rwkvsearch.data.errors import DataError

_IMAGE = ("image", "image_name", "image_path", "filename", "file_name", "filepath", "file", "path")
_CAPTION = ("caption", "captions", "comment", "sentence", "text", "raw", "title")
_NUMBER = ("comment_number", "caption_number")
_SPLIT = ("split",)
_PLAIN = re.compile(r"(?P<name>.+?\.(?:jpe?g|png|webp)),(?P<caption>.*)", re.IGNORECASE)
_GLUED = re.compile(r"\s*(?P<number>\d+)\s{2,}(?P<caption>\S.*)")

Row = tuple[int, Sequence[str]]


@dataclass(frozen=True)
class Header:
    """What separates the cells, and where the columns are; `number` counts captions."""

    delimiter: str
    width: int
    image: int
    caption: int
    number: int | None
    split: int | None


def find_header(line: str) -> Header | None:
    """The header of a table of captions; None where a line is none."""
    for delimiter in "\t|;,":
        names = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
        image, caption = _column(names, _IMAGE), _column(names, _CAPTION)
        if image is not None and caption is not None:
            number, split = _column(names, _NUMBER), _column(names, _SPLIT)
            return Header(delimiter, len(names), image, caption, number, split)
    return None


def read_table(file: Path) -> Listing:
    """The images of a table. Without a column for it, the name of the file tells the split."""
    lines = read_text(file).lstrip().split("\n")
    header = find_header(lines[0])
    assert header is not None
    gathered, keys, of_file = Gathered(), [], split_of(file.stem)
    for number, cells in _rows(file, lines[1:], header):
        where = f"{file}: line {number}"
        if len(cells) != header.width:
            raise DataError(f"{where}: {len(cells)} cells where the header has {header.width}")
        name = text_of(cells[header.image], f"{where}: the name of the image")
        split = of_file if header.split is None else cells[header.split].strip() or None
        gathered.add(name, _captions(cells[header.caption], where), split, where)
        if header.number is not None:
            keys.append(f"{name} {cells[header.number].strip()}")
    refuse_repeated(f"{file}: the caption", keys)
    return Listing(title_of(file), gathered.entries())


def _column(names: Sequence[str], known: Iterable[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _captions(cell: str, where: str) -> list[str]:
    text = text_of(cell, f"{where}: the caption")
    if text.startswith("[") and text.endswith("]"):
        try:
            found = json.loads(text)
        except ValueError:
            return [text]
        return [text_of(one, f"{where}: a caption") for one in found] if found else [text]
    return [text]


def _rows(file: Path, lines: list[str], header: Header) -> Iterator[Row]:
    """The number of each row's last line and its cells; lines without anything are left out."""
    if header.delimiter == "|":
        return _piped(lines, header)
    plain = header.delimiter == "," and (header.width, header.image) == (2, 0)
    if plain and all(_PLAIN.match(line) for line in lines if line.strip()):
        return _named(lines)
    return _quoted(file, lines, header)


def _named(lines: list[str]) -> Iterator[Row]:
    """`name.jpg,caption`, where the caption may have commas without quotes around it."""
    for number, line in enumerate(lines, 2):
        if found := _PLAIN.match(line.strip()):
            caption = found["caption"]
            try:
                (cells,) = csv.reader([caption], strict=True)
            except (csv.Error, ValueError):
                cells = []
            yield number, (found["name"], cells[0] if len(cells) == 1 else caption)


def _piped(lines: list[str], header: Header) -> Iterator[Row]:
    """Nothing is quoted, and captions have quotes in them.

    One line of Kaggle's file lacks its second delimiter, and has spaces for it.
    """
    for number, line in enumerate(lines, 2):
        if line.strip():
            cells = line.split("|", header.width - 1)
            glued = _GLUED.fullmatch(cells[-1]) if (len(cells), header.width) == (2, 3) else None
            yield number, [cells[0], glued["number"], glued["caption"]] if glued else cells


def _quoted(file: Path, lines: list[str], header: Header) -> Iterator[Row]:
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=header.delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num + 1, cells
    except csv.Error as error:
        raise DataError(f"{file}: line {reader.line_num + 1}: {error}") from error
