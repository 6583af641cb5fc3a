"""The names of classes: what stands in a sentence for the label of a set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.labelled import LabelledSet
from rwkvsearch.data.shards import split_label

Names = Mapping[str, tuple[str, ...]]
"""The names of each class by its label, at least one."""

_WORDNET = re.compile(r"(n\d{8})\s+(.+)")


def class_names(labelled: LabelledSet, file: Path | None = None) -> dict[str, tuple[str, ...]]:
    """The classes to choose among and their names: from the labels of a set, or from a file.

    A label such as `soda bottle, pop bottle` is one class with two names. The file lists the
    classes, one a line: `label<TAB>names`, `n01440764 tench, Tinca tinca` with a WordNet number,
    or names alone, whose label is the line itself, or its number from 0 on where all labels are
    numbers. Or it is a JSON object of labels with a name or a list of names each. A class of the
    file without a picture can still be chosen.

    Raises `DataError` for a file that cannot be read, a label or name that stands twice in it, a
    class without a name, and labels of the set that it does not have.
    """
    if file is None:
        classes = {label: split_label(labelled.spoken(label)) for label in labelled.labels}
        if nameless := [label for label, names in classes.items() if not names]:
            raise DataError(f"{labelled.name}: the label {nameless[0]!r} holds no name")
        return classes
    classes = _read(file, labelled)
    if unknown := [label for label in labelled.labels if label not in classes]:
        raise DataError(
            f"{file}: no class for {len(unknown)} of the {len(labelled.labels)} labels of "
            f"{labelled.name}, the first is {unknown[0]!r}"
        )
    return classes


def _read(file: Path, labelled: LabelledSet) -> dict[str, tuple[str, ...]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8") from error
    if file.suffix.lower() == ".json":
        pairs = _json_pairs(file, text)
    else:
        pairs = [*_line_pairs(text, labelled)]
    if not pairs:
        raise DataError(f"{file}: holds no class; write one a line")
    _refuse_twice(file, "the label", (label for label, _ in pairs))
    _refuse_twice(file, "the name", (", ".join(names) for _, names in pairs))
    if nameless := [label for label, names in pairs if not names]:
        raise DataError(f"{file}: the class {nameless[0]!r} has no name")
    return dict(pairs)


def _line_pairs(text: str, labelled: LabelledSet) -> Iterable[tuple[str, tuple[str, ...]]]:
    numbered = all(label.isdecimal() for label in labelled.labels)
    written = {labelled.spoken(label): label for label in labelled.labels}
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(filter(None, lines)):
        label, tab, names = line.partition("\t")
        if tab:
            yield label.strip(), split_label(names)
        elif match := _WORDNET.fullmatch(line):
            yield match[1], split_label(match[2])
        elif numbered:
            yield str(number), split_label(line)
        else:
            yield written.get(line, line), split_label(labelled.spoken(line))


def _json_pairs(file: Path, text: str) -> list[tuple[str, tuple[str, ...]]]:
    try:
        # As a list: a key that stands twice would be lost in a dictionary.
        listed: Any = json.loads(text, object_pairs_hook=lambda pairs: [("object", *pairs)])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error
    is_object = isinstance(listed, list) and listed and isinstance(listed[0], tuple)
    if not is_object:
        raise DataError(f"{file}: not an object of labels with a name or a list of names each")
    pairs = []
    for label, value in listed[0][1:]:
        names = (value,) if isinstance(value, str) else value
        if not isinstance(names, tuple | list) or not all(isinstance(one, str) for one in names):
            raise DataError(f"{file}: the class {label!r} is neither a name nor a list of names")
        pairs.append((label, tuple(" ".join(one.split()) for one in names if one.strip())))
    return pairs


def _refuse_twice(file: Path, what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for value in values:
        (twice.setdefault(value) if value in seen else seen.add(value))
    if twice:
        raise DataError(f"{file}: {what} {next(iter(twice))!r} stands twice ({len(twice)} such)")
