"""Tags by a command of the user's, run once for each picture.

It is given the path of a picture as its last argument and prints one tag a line, with a tab and a
confidence from 0 to 1 behind it if it has one.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag
from rwkvsearch.data.errors import ModelError

LONGEST = 120.0
"""Seconds that one picture may take."""
MOST_TAGS = 30


class CommandTagger:
    """Runs a command without a shell, as many at once as there are cores."""

    def __init__(self, command: str) -> None:
        """Split the command as a shell would.

        Raises:
            ModelError: it is empty or has an open quotation mark.
        """
        self.model_id = f"command:{command}"
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ModelError(f"--tagger command:{command}: {error}") from error
        if not self._words:
            raise ModelError("--tagger command: names no command")

    def tag(self, images: Sequence[Image.Image]) -> list[tuple[Tag, ...] | Failed]:
        """The tags of each RGB picture, in the order of their confidence.

        Raises:
            ModelError: there is no such command, or it may not be run.
        """
        with (
            tempfile.TemporaryDirectory(prefix="rwkvsearch-") as folder,
            ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            paths = [Path(folder) / f"{number}.jpg" for number in range(len(images))]
            for image, path in zip(images, paths, strict=True):
                image.save(path, quality=95)
            return list(pool.map(self._tag, paths))

    def _tag(self, path: Path) -> tuple[Tag, ...] | Failed:
        try:
            done = subprocess.run(
                [*self._words, str(path)],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=LONGEST,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return Failed(f"{self._words[0]} took more than {LONGEST:.0f} s")
        except OSError as error:
            raise ModelError(f"{self._words[0]}: cannot be run: {error.strerror}") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:100]
            return Failed(f"{self._words[0]} ended with {done.returncode}: {said}")
        return self._parsed(done.stdout)

    def _parsed(self, output: str) -> tuple[Tag, ...] | Failed:
        tags = []
        for line in filter(str.strip, output.splitlines()):
            name, _, number = line.partition("\t")
            try:
                confidence = float(number) if number.strip() else 1.0
            except ValueError:
                confidence = -1.0
            if not 0 <= confidence <= 1:
                return Failed(f"{self._words[0]} printed a confidence of {number.strip()!r}")
            tags.append(Tag(" ".join(name.split()), confidence))
        return tuple(sorted(tags, key=lambda tag: -tag.confidence)[:MOST_TAGS])
