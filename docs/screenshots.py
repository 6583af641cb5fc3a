"""Write `docs/screens/`: the pages of `rwkvsearch serve` over the sample photographs.

python docs/screenshots.py          # in the environment of the project, with chromium
python docs/screenshots.py map why  # only these
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "data" / "samples" / "photos"
SCREENS = ROOT / "docs" / "screens"
PROGRAM = Path(sys.executable).with_name("rwkvsearch")
COPIED = ("panda", "boats", "dahlia")
WIDE, NARROW = (1280, 800), (390, 760)
MOST = 60_000
"""Bytes of a picture."""
PATIENCE = 120_000  # milliseconds


def searched(page: Page) -> None:
    """Wait until the hits are drawn, and their pictures."""
    page.wait_for_selector("#found .card")
    page.wait_for_function("!document.querySelector('#found .card.loading:nth-child(-n+12)')")


def with_why(page: Page) -> None:
    """Open the best hit, and why it is one."""
    searched(page)
    page.locator("#found .card").first.click()
    page.get_by_role("button", name="Why this picture").click()
    page.wait_for_selector("#found .picture .why")


def with_filters(page: Page) -> None:
    """Open the filters."""
    searched(page)
    page.locator("#filters button").first.click()
    page.get_by_label("Taken in or after").wait_for()


def with_duplicates(page: Page) -> None:
    """Wait for the groups."""
    page.wait_for_selector("img")
    page.wait_for_load_state("networkidle")


def with_map(page: Page) -> None:
    """Wait until the map is made and drawn."""
    page.wait_for_selector("canvas.points")
    page.wait_for_selector("#map .nothing", state="hidden")
    settled(page)


def settled(page: Page) -> None:
    """Wait until nothing is asked for any more."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(3000)


SHOTS: list[tuple[str, str, tuple[int, int], str, Callable[[Page], None]]] = [
    ("search", "/?q=mountains and a lake", WIDE, "light", searched),
    ("search-dark", "/?q=a flower - blue", WIDE, "dark", searched),
    ("why", "/?q=a cup of coffee", WIDE, "light", with_why),
    ("filters", "/?q=a building&orientation=portrait", WIDE, "light", with_filters),
    ("map", "/map", WIDE, "dark", with_map),
    ("duplicates", "/duplicates", WIDE, "light", with_duplicates),
    ("library", "/library", WIDE, "light", settled),
    ("benchmarks", "/benchmarks", WIDE, "light", settled),
    ("phone", "/?q=a cat", NARROW, "light", searched),
]


def main() -> None:
    """Index the samples, serve them, and photograph every page."""
    with tempfile.TemporaryDirectory() as home:
        library = Path(home) / "library"
        pictures = Path(home) / "pictures"
        shutil.copytree(PHOTOS, pictures)
        for name in COPIED:
            shutil.copy(pictures / f"{name}.jpg", pictures / f"{name} copy.jpg")
        environment = os.environ | {"RWKVSEARCH_HOME": home, "CUDA_VISIBLE_DEVICES": ""}
        for words in (
            ["index", pictures, "--library", library],
            ["bench", "recall", "--data", ROOT / "data/samples", "--save", "--library", library],
        ):
            subprocess.run([PROGRAM, *map(str, words)], env=environment, check=True)
        with serving(library, environment) as url, sync_playwright() as playwright:
            while not is_ready(url):
                time.sleep(0.2)
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            SCREENS.mkdir(exist_ok=True)
            wanted = sys.argv[1:] or [shot[0] for shot in SHOTS]
            for name, address, size, scheme, ready in SHOTS:
                if name not in wanted:
                    continue
                shot = photographed(browser, f"{url}{address}", size, scheme, ready)
                (SCREENS / f"{name}.webp").write_bytes(shot)
            browser.close()


@contextmanager
def serving(library: Path, environment: dict[str, str]) -> Iterator[str]:
    """A server on a port that is free; its address."""
    words = [PROGRAM, "serve", "--library", library, "--port", "0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout
        said = re.match(r"(http://\S+)/ ", process.stdout.readline())
        try:
            if said is None:
                raise SystemExit("the server did not start: try `rwkvsearch serve`")
            yield said[1]
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    """Whether the model is loaded, so that the times shown are those of searches."""
    try:
        with urlopen(f"{url}/api/v1/health"):
            return True
    except HTTPError:
        return False


def photographed(
    browser: Any, address: str, size: tuple[int, int], scheme: str, ready: Callable[[Page], None]
) -> bytes:
    """A window as WebP, as good as it gets in so many bytes."""
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    ready(page)
    page.wait_for_timeout(800)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        picture = shot.convert("RGB")
    page.close()
    for quality in range(80, 20, -10):
        data = io.BytesIO()
        picture.save(data, "WEBP", quality=quality, method=6)
        if data.tell() <= MOST:
            break
    return data.getvalue()


if __name__ == "__main__":
    main()
