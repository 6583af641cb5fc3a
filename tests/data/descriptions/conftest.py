"""A few pictures, and somebody to describe them who counts how often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from rwkvsearch.data.descriptions.cache import Cache
from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag, one_line

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


@dataclass
class Helper:
    """Tags by colour, captions by size, answers in words of the question; counts everything."""

    model_id: str = "helper-1"
    provider: str = "helper"
    tagged: int = 0
    captioned: int = 0
    asked: list[str] = field(default_factory=list)
    failing: str = ""
    """An answer, caption or set of tags is `Failed` where this is part of what is asked."""

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        self.tagged += len(images)
        return [self._tags(image) for image in images]

    def _tags(self, image: Image.Image) -> tuple[Tag, ...] | Failed:
        red, green, _ = image.getpixel((0, 0))  # type: ignore[misc]
        if self.failing == "tags" and red > 200:
            return Failed("no idea")
        return (Tag("dog" if red > 200 else "grass", 0.9), Tag("boat", 0.1))

    def caption(self, images: Sequence[Image.Image]) -> list[str | Failed]:
        self.captioned += len(images)
        wide = [f"a picture {image.width} wide" for image in images]
        return [Failed("speechless") if self.failing == "caption" else text for text in wide]

    def answer(
        self, instruction: str, questions: Sequence[str], keep: Callable[[int, str], None]
    ) -> list[str | Failed]:
        answers: list[str | Failed] = []
        for number, question in enumerate(questions):
            self.asked.append(question)
            if self.failing and self.failing in question:
                answers.append(Failed("HTTP 500, 6 times"))
                continue
            text = "about " + " and ".join(one_line(question.split(":")))
            keep(number, text)
            answers.append(text)
        return answers


@pytest.fixture
def helper() -> Helper:
    return Helper()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache.sqlite")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two folders, one with a sidecar of two captions."""
    for number, colour in enumerate(COLOURS):
        path = tmp_path / "photos" / ("a" if number < 3 else "b") / f"{colour}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 16), colour).save(path)
    (tmp_path / "photos/a/red.txt").write_text("A red  square.\n\nSomething red.\n")
    return tmp_path / "photos"
