"""What a check of a library finds, and what puts it right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from rwkvsearch.indexer.library import Library, ModelInfo

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: `fault` is wrong, `note` worth knowing, `remedy` what helps.

    `fix` puts it right; it is called by the writer of the library. None: a person has to.
    """

    check: str
    state: State
    text: str
    remedy: str = ""
    fix: Callable[[Library], None] | None = None


class WeightsCheck(Protocol):
    """Whether the model that made embeddings is here as it was."""

    def __call__(self, model: ModelInfo) -> tuple[State, str]:
        """What was found of the weights of `model`."""


def ok(check: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, "ok", text)


def note(check: str, text: str, remedy: str = "") -> Finding:
    """Nothing is wrong, but worth knowing."""
    return Finding(check, "note", text, remedy)


def fault(
    check: str, text: str, remedy: str, fix: Callable[[Library], None] | None = None
) -> Finding:
    """Something is wrong."""
    return Finding(check, "fault", text, remedy, fix)


def some(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
