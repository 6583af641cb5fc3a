"""The search page in chromium: from Enter to the first row of thumbnails, and what takes the time.

Needs playwright and a `chromium` on the path.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

STAGES = ("total", "encode", "search", "thumbnails", "rest")
_WIDTH, _HEIGHT = 1280, 800

# `drawn` of the hits becomes another with each answer; the first row are the cards that are as high
# up as the first one.
_WATCH = """() => {
  const found = document.querySelector("#found"), times = (window.measured = {});
  const hits = () => found.querySelector("[data-drawn]");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const before = hits() && hits().dataset.drawn;
    times.done = 0;
    times.began = performance.now();
    const look = () => {
      if (hits() && hits().dataset.drawn !== before) {
        times.drawn = times.drawn || performance.now();
        const cards = [...found.querySelectorAll(".card")];
        const row = cards.filter((one) => one.offsetTop === cards[0].offsetTop);
        const whole = ({ complete, naturalWidth }) => complete && naturalWidth;
        if (row.length && row.every((one) => whole(one.querySelector("img")))) {
          times.done = performance.now();
          return;
        }
      }
      requestAnimationFrame(look);
    };
    times.drawn = 0;
    requestAnimationFrame(look);
  }, true);
}"""


@dataclass(frozen=True)
class Loaded:
    """A page that was opened with nothing kept: until its pictures are drawn."""

    milliseconds: float
    requests: int
    bytes: int


class Browser:
    """One page of a server in a browser."""

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._address = address
        self._said: dict[str, float] = {}
        page.on("response", self._hear)

    def load(self) -> Loaded:
        """Open the page, and wait for the first pictures."""
        sizes: list[int] = []
        measure = self._page.context.new_cdp_session(self._page)
        measure.send("Network.enable")
        measure.send("Network.setCacheDisabled", {"cacheDisabled": True})
        measure.on("Network.loadingFinished", lambda done: sizes.append(done["encodedDataLength"]))
        self._page.goto(self._address)
        shown = "() => { const one = document.querySelector('#found .card img');"
        self._page.wait_for_function(f"{shown} return one && one.complete && one.naturalWidth; }}")
        took = self._page.evaluate("performance.now()")
        measure.send("Network.setCacheDisabled", {"cacheDisabled": False})
        measure.detach()
        self._page.evaluate(_WATCH)
        return Loaded(took, len(sizes), int(sum(sizes)))

    def ask(self, words: str) -> dict[str, float]:
        """Type words, press Enter; the milliseconds of each of `STAGES`."""
        self._said = {}
        box = self._page.locator("#ask input[type=search]")
        box.fill(words)
        box.press("Enter")
        self._page.wait_for_function("window.measured.done")
        times = self._page.evaluate("window.measured")
        total = times["done"] - times["began"]
        stages = {"encode": 0.0, "search": 0.0, **self._said}
        stages["thumbnails"] = times["done"] - times["drawn"]
        rest = total - sum(stages.values())
        return {"total": total, **stages, "rest": rest}

    def _hear(self, response: Response) -> None:
        if "/gradio_api/run/" in response.url and response.ok:
            self._said = next(_timings(response.json()), self._said)


@contextmanager
def browser(address: str) -> Iterator[Browser]:
    """A browser that keeps nothing."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        size: Any = {"width": _WIDTH, "height": _HEIGHT}
        yield Browser(launched.new_page(viewport=size), address)
        launched.close()


def asked(page: Browser, queries: Sequence[str]) -> dict[str, list[float]]:
    """The milliseconds of each stage, query by query."""
    found = [page.ask(words) for words in queries]
    return {stage: [one[stage] for one in found] for stage in STAGES}


def _timings(said: Any) -> Iterator[dict[str, float]]:
    """What an answer says of its own time, wherever it stands in it."""
    if isinstance(said, dict):
        if isinstance(said.get("ms"), dict):
            yield said["ms"]
        said = [*said.values()]
    if isinstance(said, list):
        for one in said:
            yield from _timings(one)
