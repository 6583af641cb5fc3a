"""The map in a real browser: made, drawn, moved by mouse, finger and keys; it opens pictures."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings

from ..conftest import Run

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]  # of gradio and uvicorn

HOSTILE = '"><img src=x onerror=alert(1)>.jpg'
CLEAR = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.every(v => v === 0)"


@pytest.fixture
def address(indexed: Path, home: Path, run: Run) -> Iterator[str]:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from rwkvsearch.ui.api.routes import add_api
    from rwkvsearch.ui.web.map import add

    Image.new("RGB", (40, 30), (200, 30, 60)).save(indexed / HOSTILE)
    assert run("index", indexed).code == 0
    app, service = FastAPI(), Service(Settings(home))
    app.state.service = service
    add_api(app, service)
    with gr.Blocks(analytics_enabled=False) as pages:
        gr.Markdown("first page")
    add(pages, service)
    gr.mount_gradio_app(app, pages, path="/", ssr_mode=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    service.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, address: str, faults: list[str], **how: Any) -> Any:
    """The page with a map on it; nothing may go wrong in it, or be asked elsewhere."""
    page = browser.new_context(**how).new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append("a dialog") or dialog.dismiss())
    ours = (address, "data:", "blob:")
    page.on("request", lambda asked: asked.url.startswith(ours) or faults.append(asked.url))
    page.goto(f"{address}/map")
    page.wait_for_selector("canvas.points")
    page.wait_for_selector("#map .nothing", state="hidden", timeout=120_000)
    page.wait_for_function(f"!({CLEAR})(document.querySelector('canvas.points'))")
    page.wait_for_timeout(600)
    return page


def shape(page: Any) -> str:
    """What of the plane is seen, as the address keeps it."""
    page.wait_for_timeout(700)
    return str(page.evaluate("location.hash"))


def test_the_map(browser: Any, address: str) -> None:
    faults: list[str] = []
    page = opened(browser, address, faults, viewport={"width": 1280, "height": 860})
    assert page.locator("#map .said").inner_text() == "9 pictures, those alike close together."
    canvas = page.locator("canvas.points")
    assert "Map of 9 pictures" in canvas.get_attribute("aria-label")

    page.click("#map .in")
    closer = shape(page)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    moved = shape(page)
    page.keyboard.press("0")
    whole = shape(page)
    assert len({closer, moved, whole}) == 3 and whole == "#at=0.50000,0.50000,1.000"
    page.keyboard.press("-")
    assert float(shape(page).split(",")[-1]) < 1
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.wheel(0, -300)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 260, steps=4)
    page.mouse.up()
    dragged = shape(page)
    assert dragged.split(",")[0] != "#at=0.50000"
    page.reload()
    page.wait_for_selector("canvas.points")
    page.wait_for_selector("#map .nothing", state="hidden")
    assert shape(page) == dragged  # where the person was

    page.fill("#map input[name=q]", "a dog")
    page.press("#map input[name=q]", "Enter")
    page.wait_for_function("document.querySelector('#map .found').textContent.startsWith('The 9')")
    page.click("#map .clear")
    assert page.locator("#map .found").inner_text() == ""

    page.locator("canvas.points").focus()
    page.keyboard.press("0")
    page.wait_for_timeout(600)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?image=*")
    assert faults == []


def test_hostile_names_are_texts(browser: Any, address: str) -> None:
    faults: list[str] = []
    page = opened(browser, address, faults, viewport={"width": 1280, "height": 860})
    canvas = page.locator("canvas.points")
    box = canvas.bounding_box()
    seen = set()
    for step in range(0, 400):  # over the whole map
        x, y = 270 + 35 * (step % 20), 10 + 32 * (step // 20)
        page.mouse.move(box["x"] + x, box["y"] + y)
        if canvas.evaluate("c => c.classList.contains('over')"):
            page.wait_for_timeout(150)  # its name is fetched
            seen.add(page.locator("#map .tip span").text_content())
        if HOSTILE in seen:
            break
    assert HOSTILE in seen
    assert page.locator("#map img").count() == 1  # of the tip itself
    assert faults == []


def test_a_phone_in_the_dark(browser: Any, address: str) -> None:
    faults: list[str] = []
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
    how = phone | {"has_touch": True, "color_scheme": "dark"}
    page = opened(browser, address, faults, **how)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    canvas = page.locator("canvas.points")
    assert canvas.evaluate("c => c.width === Math.round(2 * c.clientWidth)")
    box = canvas.bounding_box()
    for step in range(200):
        page.touchscreen.tap(box["x"] + 20 + 17 * (step % 20), box["y"] + 60 + 40 * (step // 20))
        if page.locator("#map .tip").is_visible():
            break
    place = (box["x"] + 20 + 17 * (step % 20), box["y"] + 60 + 40 * (step // 20))
    assert page.url.startswith(f"{address}/map")  # a finger looks first
    page.touchscreen.tap(*place)
    page.wait_for_url("**/?image=*")
    assert faults == []
