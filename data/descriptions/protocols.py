"""What describing asks of others: a captioner, a tagger and a language model.

Each answers for a batch, in its order. A picture that one of them cannot handle is a `Failed` in
its place and never stops the others; what stops a run (no such model, no access) is raised as a
`ModelError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from rwkvsearch.data.descriptions.texts import Tag


@dataclass(frozen=True)
class Failed:
    """There is no answer for one picture; `reason` is a short lower-case phrase."""

    reason: str


class Captioner(Protocol):
    """Says in a sentence what a picture shows."""

    @property
    def provider(self) -> str:
        """What runs it, such as `transformers`."""

    @property
    def model_id(self) -> str:
        """Names the model and every setting that changes what it says."""

    def caption(self, images: Sequence[Image.Image]) -> list[str | Failed]:
        """One sentence for each RGB picture."""


class Tagger(Protocol):
    """Names what is in a picture."""

    @property
    def model_id(self) -> str:
        """Names the model and every setting that changes what it finds."""

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        """The tags of each RGB picture, most confident first."""


class LanguageModel(Protocol):
    """Answers questions under an instruction."""

    @property
    def model_id(self) -> str:
        """Names the model and every setting that changes its answers."""

    def answer(
        self, instruction: str, questions: Sequence[str], keep: Callable[[int, str], None]
    ) -> list[str | Failed]:
        """One answer for each question; `keep` is told each as soon as it is there."""
