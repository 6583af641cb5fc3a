"""The words that pictures are tagged with, and their grammar: our own, or a list of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from rwkvsearch.data.errors import DataError

WordKind = Literal["thing", "stuff", "scene", "activity"]


@dataclass(frozen=True)
class Word:
    """A name, what it names, and what that is.

    `form` is the plural of a thing (`mice`) and the phrase of a scene (`on a beach`); `parent` is
    a broader word such as `animal`, or a group without a name of its own.
    """

    name: str
    kind: WordKind = "thing"
    parent: str = ""
    form: str = ""


@cache
def everyday_words() -> dict[str, Word]:
    """The words that ship in the package, by name."""
    file = files("rwkvsearch.data") / "vocabulary" / "everyday_words.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    words = [word for line in lines if line and line[0] != "#" for word in _group(line)]
    return {word.name: word for word in words}


def read_words(path: Path) -> dict[str, Word]:
    """The words of a file, one a line; those we know bring their grammar, others are things.

    Raises:
        DataError: not readable, not UTF-8, or without a word.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8") from error
    names = dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()[:1] not in "#")
    if not names:
        raise DataError(f"{path}: holds no word; write one a line")
    return {name: find_word(name) for name in names}


def find_word(name: str) -> Word:
    """What we know of a name; one we do not know is a thing."""
    return everyday_words().get(name) or Word(name, "thing", "", plural(name))


def ancestors(words: Mapping[str, Word], name: str) -> list[str]:
    """The broader words of a word that are themselves among `words`, nearest first."""
    found: list[str] = []
    word = words.get(name)
    while word is not None and word.parent in words and word.parent not in found:
        found.append(word.parent)
        word = words[word.parent]
    return found


def with_article(name: str) -> str:
    """`a dog`, `an otter`, by the letter that the name begins with."""
    sounds_otherwise = name.startswith(("uni", "use", "eu", "one"))
    return f"{'an' if name[0].lower() in 'aeiou' and not sounds_otherwise else 'a'} {name}"


def plural(name: str) -> str:
    """The regular plural of a name, of its last word."""
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return name + ("es" if name.endswith(("s", "x", "z", "ch", "sh")) else "s")


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), *parts[-1:]])


def _group(line: str) -> list[Word]:
    head, names = line.split(":")
    kind, parent, *preposition = (field.strip() for field in head.split("|"))
    assert kind in get_args(WordKind), line
    before = preposition[0] if preposition else ""
    return [_word(kind, parent, before, name.strip()) for name in names.split(",")]  # type: ignore[arg-type]


def _word(kind: WordKind, parent: str, preposition: str, text: str) -> Word:
    if kind == "thing":
        name, _, form = text.partition(">")
        return Word(name, kind, parent, form or plural(name))
    if kind == "scene":
        name, _, form = text.partition("=")
        return Word(name, kind, parent, form or f"{preposition} {with_article(name)}")
    return Word(text, kind, parent)
