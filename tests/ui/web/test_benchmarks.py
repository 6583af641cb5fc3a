"""The page of benchmarks in a real browser: with results, without, and with hostile names."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rwkvsearch.indexer.results import MeasuredData, MeasuredModel, Result, keep_result

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]  # of gradio and uvicorn

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
HOSTILE = '"><img src=x onerror=alert(1)>'
Open = Callable[[Path, int], Any]


def keep(home: Path, name: str, images: int, model: str = "b32-yfcc15m-00000000-fp32") -> None:
    recall = {"R@1": 57.1, "R@5": 82.2, "R@10": 88.3}
    results = {"text_to_image": recall, "image_to_text": {**recall, "R@1": 75.9}}
    data = MeasuredData(name, "test", images, 5000, None, name)
    settings = {"prefix": "a photo of ", "precision": "fp32"}
    about = MeasuredModel(model, "0" * 64, "p")
    keep_result(home, Result("recall", WHEN, about, data, settings, results, {"cores": 2}))


def keep_tuning(home: Path) -> None:
    kinds = [
        {"kind": kind, "faiss": kind, "p50_ms": p50, "p99_ms": 2 * p50, "bytes_per_vector": 100.0}
        | {"ann_recall_images": recall, "ann_recall_texts": recall - 0.01}
        for kind, p50, recall in (("SQfp16", 8.0, 1.0), ("SQ8", 2.0, 0.999), ("RaBitQ", 1.0, 0.9))
    ]
    results = {"k": 10, "images": 30_000, "target": 0.98, "chosen": "SQ8", "why": "the fastest"}
    data = MeasuredData("photos", None, 30_000, None, None, "photos")
    when, about = WHEN + timedelta(days=1), MeasuredModel("m", "0" * 64, "p")
    keep_result(home, Result("tune", when, about, data, {}, results | {"kinds": kinds}, {}))


def keep_others(home: Path) -> None:
    data = MeasuredData("pets", None, 8, None, 6, "pets")
    top = {"top1": 68.2, "top5": 87.3}
    keep_result(home, Result("classify", WHEN, None, data, {"templates": ["a {}"]}, top, {}))
    keep_result(home, Result("speed", WHEN, None, None, {}, {"images_per_second": 12.5}, {}))
    rate = {"median": 57.04, "low": 50.0, "high": 60.0, "rounds": 3}
    speed = {
        "machine": {},
        "encoder": {
            "models": {"fp32": {"images": {"16": rate}, "texts": {"16": rate}}},
            "b32_image": {"ratio_to_vit_b32": {"1": 1.02, "16": 0.9873}},
        },
        "ann": {"1000": {"rows": 1000, "query": {"p50_ms": rate}, "ann_recall@10": {"images": 1}}},
    }
    keep_result(home, Result("speed", WHEN, None, None, {}, speed, {}))
    keep_result(home, Result("recall", WHEN, None, data, {}, {"of another": "shape"}, {}))
    (home / "benchmarks" / "bad.json").write_text("{")


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The page and its route alone, on a port that is free."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from rwkvsearch.ui.api.benchmark_routes import router
    from rwkvsearch.ui.web.benchmarks import add

    app, service = (
        FastAPI(),
        SimpleNamespace(
            library=SimpleNamespace(path=home, place=home, name=str(home), is_shared=False)
        ),
    )
    app.state.service = service
    app.include_router(router, prefix="/api/v1")
    with gr.Blocks(analytics_enabled=False) as pages:
        gr.Markdown("first page")
    add(pages, service)  # type: ignore[arg-type]
    gr.mount_gradio_app(app, pages, path="/", ssr_mode=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def look() -> Iterator[Open]:
    """Open the page of a library at a width; nothing may go wrong in it, or be asked elsewhere."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        servers = []

        def opened(home: Path, width: int) -> Any:
            servers.append(server := served(home))
            address = server.__enter__()
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                permissions=["clipboard-read", "clipboard-write"],
            )
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("dialog", lambda dialog: faults.append("a dialog") or dialog.dismiss())
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith((address, "data:", "blob:"))
                    else faults.append(request.url)
                ),
            )
            page.goto(f"{address}/benchmarks")
            page.wait_for_selector(".benchmarks section")
            return page

        yield opened
        browser.close()
        for server in servers:
            server.__exit__(None, None, None)
    assert faults == []


def test_results_beside_the_published_rows(look: Open, tmp_path: Path) -> None:
    keep(tmp_path, "flickr30k", 1000)
    keep_tuning(tmp_path)
    keep_others(tmp_path)
    page = look(tmp_path, 1280)
    recall = page.locator("section.recall")
    assert recall.locator("h2").inner_text() == "Recall on flickr30k, test"
    first = recall.locator(".panel").first.locator(".group").first.locator(".row")
    rows = [row.inner_text().split("\n") for row in first.all()]
    assert rows[0] == ["b32-yfcc15m-00000000-fp32", "57.1"]
    assert rows[1] == ["RWKV-CLIP B/32, published, the same model", "57.6"]
    assert len(rows) == 6
    bar, track = first.first.locator(".bar"), first.first.locator(".track")
    share = bar.bounding_box()["width"] / track.bounding_box()["width"]
    assert share == pytest.approx(0.571, abs=0.005)
    assert page.locator("section.accuracy .value").all_inner_texts() == ["68.2", "87.3"]
    tuning = page.locator("section.tuning")
    tuning.locator("svg").wait_for()
    assert "Chosen: number 2, SQ8, the fastest" in tuning.inner_text()
    assert tuning.locator(".point.chosen text").text_content() == "2"
    places = {
        dot.locator("text").text_content(): dot.locator("circle").last.bounding_box()
        for dot in tuning.locator(".point").all()
    }
    assert places["3"]["x"] < places["2"]["x"] < places["1"]["x"]
    assert places["1"]["y"] < places["2"]["y"] < places["3"]["y"]
    assert tuning.locator("tr.chosen td").nth(1).inner_text() == "SQ8 (chosen)"
    table = page.locator("section.everything").inner_text()
    assert "images_per_second 12.5" in table
    assert "B/32 image to ViT-B/32: 1.02 at batch 1, 0.987 at batch 16" in table
    assert "1,000 pictures: query 57.0 ms, ann_recall@10 1.00" in table
    assert page.locator("section.everything tbody tr").count() == 6
    assert "damaged: not JSON" in page.locator("section.unreadable").inner_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_other_data_and_hostile_names(width: int, look: Open, tmp_path: Path) -> None:
    keep(tmp_path, "flickr8k", 1000)
    keep(tmp_path, HOSTILE, 1000, HOSTILE)
    (tmp_path / "benchmarks" / f"{HOSTILE}.json").write_text("{")
    keep_tuning(tmp_path)
    page = look(tmp_path, width)
    page.locator("svg").wait_for()
    text = page.locator(".benchmarks").inner_text()
    assert "No published row for flickr8k: those known here are of Flickr30k and MSCOCO" in text
    assert page.locator(".row.published").count() == 0
    assert f"Recall on {HOSTILE}, test" in text and f"{HOSTILE}.json" in text
    assert page.locator(".benchmarks img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_nothing_is_kept(look: Open, tmp_path: Path) -> None:
    page = look(tmp_path, 390)
    assert page.locator("section.empty h2").inner_text() == "Nothing is measured yet"
    commands = page.locator(".commands code").all_inner_texts()
    assert commands[2] == f"rwkvsearch tune --save --library {tmp_path}"
    button = page.locator(".commands button").nth(2)
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.commands button')[2].innerText == 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == commands[2]
    page.locator("summary").click()
    assert page.locator(".published table").first.inner_text().count("arXiv 2406.06973") == 3
