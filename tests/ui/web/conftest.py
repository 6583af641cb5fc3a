"""A real server over the sample photographs, and a real browser in which nothing may go wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "data" / "samples" / "photos"
PROGRAM = Path(sys.executable).with_name("rwkvsearch")
HOSTILE = '"><img src=x onerror=alert(1)>'
PATIENCE = 60_000  # milliseconds, of a machine that does much else
TAKEN = {
    "alps": ("2019:06:30 12:00:00", "Nikon D5"),
    "coffee": ("2019:07:01 08:00:00", "Canon EOS R5"),
    "dogs": ("2021:01:05 09:30:00", "Nikon D5"),
    "pagoda": ("2022:03:09 17:45:00", "Canon EOS R5"),
    "wren": ("2023:10:10 10:10:10", HOSTILE),
}
SAID = {
    "coffee": "a cup of espresso on a saucer",
    "dogs": "two dogs on the grass",
    "alps": "snow on high mountains",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$RWKVSEARCH_HOME`; the model is the real one here."""
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RWKVSEARCH_DEVICE", raising=False)
    return tmp_path / "home"


def command(*arguments: object, **variables: str) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment() | variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Nothing of this computer's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RWKVSEARCH_", "GRADIO_"))}
    return kept | {"RWKVSEARCH_HOME": "/nonexistent/rwkvsearch", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, some of them dated, and a few made ones with bad names."""
    folder = tmp_path_factory.mktemp("pictures")
    for photo in sorted(PHOTOS.glob("*.jpg")):
        taken = TAKEN.get(photo.stem)
        if taken is None:
            shutil.copy(photo, folder)
            continue
        with Image.open(photo) as image:
            exif = image.getexif()
            exif[0x0110] = taken[1]
            exif.get_ifd(0x8769)[0x9003] = taken[0]
            image.save(folder / photo.name, quality="keep", exif=exif)
    for name, text in SAID.items():
        (folder / f"{name}.txt").write_text(f"{text}\n")
    (folder / "wren.txt").write_text(f"{HOSTILE}\n")
    made = folder / f"made {HOSTILE.replace('/', '')}"
    made.mkdir()
    for at, name in enumerate((f"{HOSTILE}.jpg", "lost.jpg", "tall.png")):
        size = (200, 600) if name == "tall.png" else (480, 320)
        draw(made / name, at, size)
    return folder


def draw(path: Path, seed: int, size: tuple[int, int] = (480, 320)) -> Path:
    """A picture of coloured squares, another one for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="session")
def library(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those pictures, indexed and tagged with the starter model."""
    folder = tmp_path_factory.mktemp("library")
    command("index", pictures, "--library", folder)
    command("tag", "--labels", "dog,cat,mountain", "--library", folder)
    return folder


@dataclass
class Server:
    """A running `rwkvsearch serve`; `log` is what it has written to stderr so far."""

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE / 1000)


@contextmanager
def serving(library: Path | str, *options: object, **variables: str) -> Iterator[Server]:
    """A server of its own on a port that is free."""
    words = [PROGRAM, "serve", "--library", library, "--port", 0, *options]
    with subprocess.Popen(
        [*map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
        start_new_session=True,  # as a shell in the background would, Ctrl-C is ignored otherwise
    ) as process:
        assert process.stdout and process.stderr
        log: list[str] = []
        reader = Thread(target=log.extend, args=(iter(process.stderr.readline, ""),))
        reader.start()
        try:
            said = process.stdout.readline()
            found = re.match(r"(http://\S+?)/ ", said)
            if not found:
                process.kill()
                reader.join()
                pytest.fail(f"{said}{''.join(log)}")
            server = Server(found[1], process, log)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()


@pytest.fixture(scope="session")
def server(library: Path) -> Iterator[Server]:
    """The server over `library`; whoever changes the library changes it for all."""
    with serving(library) as running:
        yield running


@pytest.fixture(scope="module")  # its loop would be in the way of tests with one of their own
def browser() -> Iterator[Any]:
    """Chromium; only where there is none, and never in CI, its tests are left out."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium here")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Visitor:
    """Opens pages in windows of their own, or in `context`; `options` are those of `new_context`.

    Errors in a page, on its console, and requests that leave the server end up in `faults`;
    `allowed` are parts of those that a test means to see. `requests` is everything asked for.
    """

    browser: Any
    url: str
    faults: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    context: Any = None
    _pages: list[Any] = field(default_factory=list)

    def __call__(
        self, address: str = "/", *, width: int = 1280, height: int = 900, **options: Any
    ) -> Any:
        size = {"width": width, "height": height}
        if self.context is None or options:
            page = new_context(self.browser, viewport=size, **options).new_page()
        else:
            page = self.context.new_page()
            page.set_viewport_size(size)
        self._pages.append(page)
        page.on("pageerror", lambda error: self.faults.append(f"page: {error}"))
        page.on("console", self._heard)
        page.on("dialog", self._asked)
        page.on("request", lambda request: self._requested(request.url))
        page.goto(self.url + address)
        return page

    def close(self) -> None:
        """Close what was opened."""
        for page in self._pages:
            page.close() if page.context is self.context else page.context.close()

    def check(self) -> None:
        """Nothing has gone wrong but what was allowed to."""
        wrong = [one for one in self.faults if not any(part in one for part in self.allowed)]
        assert not wrong, "\n".join(wrong)

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location.get('url')}")

    def _asked(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, address: str) -> None:
        self.requests.append(address)
        if not address.startswith((f"{self.url}/", "data:", "blob:")):
            self.faults.append(f"elsewhere: {address}")


def new_context(browser: Any, **options: Any) -> Any:
    """A profile of the browser, with nothing in it, that may use the clipboard."""
    rights = ["clipboard-read", "clipboard-write"]
    context = browser.new_context(permissions=rights, **options)
    context.set_default_timeout(PATIENCE)
    return context


@contextmanager
def visiting(browser: Any, server: Server, context: Any = None) -> Iterator[Visitor]:
    """A visitor, checked in the end; without a `context` every page has its own."""
    visitor = Visitor(browser, server.url, context=context)
    try:
        yield visitor
    finally:
        visitor.close()
    visitor.check()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visitor]:
    """Open pages of `server`."""
    with visiting(browser, server) as visitor:
        yield visitor
