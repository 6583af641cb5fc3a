"""The pages of duplicates and of the library in a real browser, with names that mean harm."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .conftest import PATIENCE, PHOTOS, Server, Visitor, command, serving, visiting

pytestmark = pytest.mark.browser

HOSTILE = '"><img src=x onerror=alert(1)>.jpg'
UNDECODABLE = os.fsdecode(b"caf\xe9 d'or.jpg")
COPIES = ("alps", "astronaut", "boats")
NEAR = ("panda", "wren")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, copies of three, smaller ones of two, and files that are none."""
    made = tmp_path_factory.mktemp("mine")
    for name in (*COPIES, *NEAR, "coffee", "dogs"):
        shutil.copy2(PHOTOS / f"{name}.jpg", made)
    for name, copy in zip(COPIES, (HOSTILE, UNDECODABLE, "boats again.jpg"), strict=True):
        shutil.copy2(PHOTOS / f"{name}.jpg", made / copy)
    for name in NEAR:
        with Image.open(PHOTOS / f"{name}.jpg") as image:
            image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(
                made / f"{name} small.jpg", quality=90
            )
    (made / HOSTILE.replace("1", "2")).write_bytes(b"<script>alert(3)</script>")
    (made / "empty.jpg").write_bytes(b"")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    library = tmp_path_factory.mktemp("library of mine")
    command("index", folder, "--library", library)
    with serving(library) as running:
        yield running


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visitor]:
    with visiting(browser, server) as visitor:
        yield visitor


def copy_of(page: Any, button: Any) -> str:
    """What a button copies."""
    page.evaluate("navigator.clipboard.writeText('')")
    button.click()
    text = ""
    for _ in range(PATIENCE // 50):
        text = page.evaluate("navigator.clipboard.readText()")
        if text:
            break
        page.wait_for_timeout(50)
    return text


def test_groups_side_by_side(visit: Visitor, folder: Path) -> None:
    page = visit("/duplicates")
    groups = page.locator(".group")
    groups.first.wait_for()
    assert groups.count() == 5
    assert page.locator(".kinds").inner_text().split("\n") == ["All 5", "Same bytes 3", "Near 2"]
    assert re.search(r"kB could be freed.*5 files beside the first", flat(page, ".summary"))
    alps = groups.filter(has_text=HOSTILE)
    assert alps.locator(".copy").count() == 2
    assert alps.locator(".first").count() == 1
    assert {str(folder / "alps.jpg"), str(folder / HOSTILE)} == set(
        alps.locator(".path").all_inner_texts()
    )
    near = groups.filter(has_text="panda small.jpg")
    assert flat(near, ".first").startswith("First: most pixels")
    assert re.search(r"Score 0\.\d{3}, \d+ bits? differs?", flat(near, ".copy:not(.first)"))
    for at in range(5):
        groups.nth(at).scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.thumb img')].every(i => i.complete && i.naturalWidth)"
    )
    assert page.locator("img[src=x]").count() == 0


def flat(inside: Any, selector: str) -> str:
    return " ".join(inside.locator(selector).first.inner_text().split())


def test_filters_are_in_the_address(visit: Visitor) -> None:
    page = visit("/duplicates")
    page.get_by_role("button", name="Near 2").click()
    page.locator(".group").nth(1).wait_for()
    assert page.locator(".group").count() == 2 and page.url.endswith("/duplicates?kind=near")
    page.reload()
    page.locator(".group").nth(1).wait_for()
    assert page.locator(".group").count() == 2
    page.get_by_text("How alike, and where").click()
    page.get_by_label("Bits that may differ").fill("0")
    page.get_by_label("Least score").fill("1")
    page.get_by_role("button", name="Look").click()
    page.get_by_text("No near duplicates among").wait_for()
    page.get_by_role("button", name="Show all").click()
    page.locator(".group").nth(2).wait_for()


def test_a_folder_that_is_not_known(visit: Visitor) -> None:
    visit.allowed.append("422")
    page = visit("/duplicates?under=/etc")
    page.get_by_text("/etc: nothing there was indexed").wait_for()


def test_paths_are_copied(visit: Visitor, folder: Path) -> None:
    page = visit("/duplicates?kind=exact")
    page.locator(".group").first.wait_for()
    one = page.locator(".copy").filter(has_text=HOSTILE).get_by_role("button", name="Copy path")
    assert copy_of(page, one) == str(folder / HOSTILE)
    odd = page.locator(".copy").filter(has_text="or.jpg").get_by_role("button", name="Copy path")
    assert copy_of(page, odd) == f"$'{folder}/caf\\xe9 d\\x27or.jpg'"
    for name in ("boats", "astronaut"):
        group = page.locator(".group").filter(has_text=f"{name}.jpg")
        shown = group.locator(".copy:not(.first) .path").inner_text()
        expected = f"$'{folder}/caf\\xe9 d\\x27or.jpg'" if "or.jpg" in shown[-6:] else shown
        assert copy_of(page, group.get_by_role("button", name="Copy all but")) == expected
    words = copy_of(page, page.get_by_role("button", name="Copy for a shell"))
    command = b"printf '%s\\0' " + words.encode()
    read = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True).stdout
    shown = page.locator(".copy:not(.first) .path").all_inner_texts()
    assert len(shown) == 3
    decoded = read.decode(errors="replace").split("\0")[:-1]
    assert decoded == [re.sub(r"[\ud800-\udfff]", "\ufffd", path) for path in shown]
    with page.expect_download() as download:
        page.get_by_role("link", name="Save NUL-separated").click()
    assert Path(download.value.path()).read_bytes() == read


def test_a_click_opens_the_large_view(visit: Visitor) -> None:
    page = visit("/duplicates")
    page.locator(".thumb").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/\?image=\d+"))
    page.get_by_role("dialog").wait_for()


@pytest.mark.parametrize("address", ["/duplicates", "/library"])
def test_a_phone(visit: Visitor, address: str) -> None:
    page = visit(address, width=390, height=844)
    page.locator(".group, .facts").first.wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_errors_by_reason(visit: Visitor, folder: Path) -> None:
    page = visit("/library")
    reason = page.locator(".reason").filter(has_text="not an image")
    reason.locator("summary").click()
    bad = str(folder / HOSTILE.replace("1", "2"))
    reason.get_by_text(bad).wait_for()
    assert ".rwkvsearchignore" in flat(reason, "p")
    assert copy_of(page, reason.get_by_role("button", name="Copy all paths")) == bad
    assert page.locator("img[src=x]").count() == 0


def test_the_doctor(visit: Visitor) -> None:
    page = visit("/library")
    page.get_by_role("button", name="Check the library").click()
    page.get_by_text(re.compile(r"^Clean \(")).wait_for()
    assert page.locator(".findings li").count() >= 9


def test_a_sync_from_the_page(visit: Visitor, folder: Path) -> None:
    page = visit("/library")
    page.get_by_text(str(folder), exact=True).wait_for()
    shutil.copy2(PHOTOS / "pagoda.jpg", folder)
    try:
        page.get_by_role("button", name="Sync now").click()
        page.get_by_role("button", name="Stop").wait_for()
        page.get_by_text(re.compile(r"^15 files: 1 embedded, 12 unchanged, 2 skipped; ")).wait_for()
        page.get_by_role("button", name="Sync now").wait_for()
        page.get_by_text(re.compile("13 files, 2 errors")).wait_for()
    finally:
        (folder / "pagoda.jpg").unlink()


def test_a_sync_is_stopped_from_the_page(visit: Visitor) -> None:
    page = visit("/library")
    page.get_by_role("button", name="Sync now").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text(re.compile("^stopped; what is done is kept")).wait_for()
