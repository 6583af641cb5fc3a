"""The search page in a real browser, against the engine's own answers."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from PIL import Image

from rwkvsearch.indexer.filters import Filters
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.web.answers import PAGE

from .conftest import HOSTILE, Server, Visitor, new_context, serving, visiting

pytestmark = pytest.mark.browser

UNREACHABLE = ("ERR_CONNECTION", "Could not", "Failed to fetch")
_GIVE = """([kind, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name, { type: name.endsWith("jpg") ? "image/jpeg" : "text/plain" }));
  const options = { bubbles: true, cancelable: true };
  document.body.dispatchEvent(
    kind === "paste"
      ? new ClipboardEvent("paste", { ...options, clipboardData: given })
      : new DragEvent("drop", { ...options, dataTransfer: given }),
  );
}"""  # noqa: E501
_SWIPE = """([from, to]) => {
  const target = document.querySelector("#found .picture");
  const at = (clientX) => [new Touch({ identifier: 1, target, clientX, clientY: 300 })];
  const send = (kind, x) =>
    target.dispatchEvent(new TouchEvent(kind, { touches: kind === "touchend" ? [] : at(x), changedTouches: at(x) }));
  send("touchstart", from);
  send("touchend", to);
}"""  # noqa: E501
_COLOURS = """(element) => {
  let behind = element;
  const clear = (one) => /^rgba\\(.*, 0\\)$|^transparent$/.test(getComputedStyle(one).backgroundColor);
  while (clear(behind) && behind.parentElement) behind = behind.parentElement;
  return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
}"""  # noqa: E501


@pytest.fixture(scope="module")
def engine(library: Path) -> Iterator[SearchEngine]:
    """What the server shall answer as."""
    with SearchEngine.open(library) as opened:
        opened.warm()
        yield opened


@pytest.fixture(scope="module")
def profile(browser: Any) -> Iterator[Any]:
    """One profile for all: what the pages are made of is fetched once."""
    context = new_context(browser)
    yield context
    context.close()


@pytest.fixture
def visit(browser: Any, server: Server, profile: Any) -> Iterator[Visitor]:
    with visiting(browser, server, profile) as visitor:
        yield visitor


@pytest.fixture
def go(visit: Visitor) -> Callable[..., Any]:
    """Open a page and wait until it has drawn its answer."""

    def opened(address: str = "/", **options: Any) -> Any:
        page = visit(address, **options)
        page.wait_for_selector("[data-drawn]", state="attached")
        return page

    return opened


@contextmanager
def another(page: Any) -> Iterator[None]:
    """Wait until another answer than the one before is drawn."""
    before = int(page.get_attribute("[data-drawn]", "data-drawn"))
    yield
    page.wait_for_function(
        "(before) => Number(document.querySelector('[data-drawn]').dataset.drawn) > before",
        arg=before,
    )


def find(page: Any, words: str) -> None:
    page.fill("#ask input[type=search]", words)
    with another(page):
        page.keyboard.press("Enter")


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def ids(page: Any) -> list[int]:
    found = page.eval_on_selector_all("#found .card", "(all) => all.map((one) => one.dataset.id)")
    return [int(one) for one in found]


def asked(page: Any) -> dict[str, list[str]]:
    """What the address says."""
    return parse_qs(urlsplit(page.url).query)


def status(page: Any) -> str:
    return page.locator("#found .said").inner_text().split("\n")[0]


def best(engine: SearchEngine, query: Query) -> list[int]:
    return [hit.image_id for hit in engine.run(query)]


def words(text: str, **more: Any) -> Query:
    return Query(parse(text), k=PAGE, **more)


def image_id(engine: SearchEngine, name: str) -> int:
    everything = range(1, engine.size + 1)
    paths = engine.library.paths_of(everything)
    return next(one for one, found in paths.items() if found[0].name == name)


def give(page: Any, kind: str, path: Path) -> None:
    data = base64.b64encode(path.read_bytes()).decode()
    with another(page):
        page.evaluate(_GIVE, [kind, path.name, data])


def open_first(page: Any) -> None:
    page.locator("#found .card").first.click()
    page.wait_for_selector("#found dialog[open] .facts .path")


# Asking.


def test_words_are_answered_as_the_engine_does(go: Any, engine: SearchEngine) -> None:
    page = go()
    assert re.fullmatch(r"63 pictures, the latest first", status(page))
    assert len(ids(page)) == PAGE
    for text in ("a dog", "2:flowers + water - blue"):
        find(page, text)
        assert ids(page) == best(engine, words(text))
        assert asked(page) == {"q": [text]}
        assert page.title() == f"{text} – rwkvsearch"
        assert status(page).startswith("Best of 63 pictures")
    first = engine.run(words("2:flowers + water - blue"))[0]
    card = page.locator("#found .card").first
    sure = int(card.locator(".sure").inner_text().removesuffix(" %"))
    assert sure == pytest.approx(100 * first.confidence, abs=0.6)
    assert f"score {first.score:.3f}" in card.get_attribute("title")


@pytest.mark.parametrize(
    "text, said",
    [
        ("./alps.jpg", "a picture is given by the button beside the words"),
        ("/etc/passwd", "a picture is given by the button beside the words"),
        ("- snow", "says only what is not wanted"),
        ("a + - b", "nothing stands behind"),
        ("dog - dog", "cancel"),
    ],
)
def test_words_that_make_no_sense(go: Any, text: str, said: str) -> None:
    page = go(f"/?q={quote(text)}")
    assert said in page.locator("#found .banner.error").inner_text()
    assert ids(page) == []
    assert page.locator("#ask input[type=search]").input_value() == text
    find(page, "a dog")
    assert ids(page) and page.locator("#found .banner.error").count() == 0


def test_an_address_says_everything(go: Any, engine: SearchEngine, pictures: Path) -> None:
    folder = quote(str(pictures))
    page = go(f"/?min_confidence=0.01&q=a+dog&orientation=portrait&under={folder}&before=2022")
    filters = Filters(folders=(pictures,), orientation="portrait", before="2022")
    assert ids(page) == best(engine, words("a dog", filters=filters, min_confidence=0.01))
    assert page.locator("#ask input[type=search]").input_value() == "a dog"
    assert status(page).startswith(f"Best of {len(engine.passing(filters))} of 63 pictures")
    page.get_by_role("button", name="Filters (4)").click()
    assert page.get_by_label("portrait").is_checked()
    assert page.get_by_label("Taken in or before").input_value() == "2022"
    assert str(pictures) in page.locator("#filters").inner_text()
    # Only the order of the parts has changed, and the history has no entry more.
    assert asked(page).keys() == {"q", "under", "orientation", "before", "min_confidence"}


@pytest.mark.parametrize("address", ["/?like=none", "/?min_confidence=2", "/?liked=-1"])
def test_an_address_that_cannot_be_read(go: Any, address: str) -> None:
    page = go(address)
    assert "this address cannot be read" in page.locator("#found .banner.error").inner_text()


def test_back_and_forward(go: Any, engine: SearchEngine) -> None:
    page = go("/?__theme=light")
    before = page.evaluate("history.length")
    for text in ("a dog", "snow"):
        find(page, text)
    assert page.evaluate("history.length") == before + 2
    with another(page):
        page.go_back()
    assert ids(page) == best(engine, words("a dog"))
    assert page.locator("#ask input[type=search]").input_value() == "a dog"
    with another(page):
        page.go_back()
    assert status(page) == "63 pictures, the latest first" and page.title() == "rwkvsearch"
    with another(page):
        page.go_forward()
    assert page.title() == "a dog – rwkvsearch" and asked(page)["__theme"] == ["light"]
    assert page.evaluate("history.length") == before + 2


@pytest.mark.parametrize("way", ["button", "drop", "paste"])
def test_a_picture_is_given(go: Any, engine: SearchEngine, pictures: Path, way: str) -> None:
    page = go()
    if way == "button":
        with another(page), page.expect_file_chooser() as chooser:
            press(page, "Search by a picture")
            chooser.value.set_files(pictures / "coffee.jpg")
    else:
        give(page, way, pictures / "coffee.jpg")
    with Image.open(pictures / "coffee.jpg") as picture:
        query = Query((Term(image=picture.convert("RGB")),), k=PAGE)
    assert ids(page)[:10] == best(engine, query)[:10]
    assert "upload" in asked(page)
    chip = page.locator("#ask .chip")
    assert chip.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)")
    with another(page):
        page.get_by_role("button", name="Remove your picture").click()
    assert asked(page) == {} and chip.count() == 0


def test_words_and_a_picture_together(go: Any, engine: SearchEngine, pictures: Path) -> None:
    page = go()
    page.fill("#ask input[type=search]", "a bridge")  # not sent yet
    give(page, "drop", pictures / "alps.jpg")
    with Image.open(pictures / "alps.jpg") as picture:
        query = Query((Term("a bridge"), Term(image=picture.convert("RGB"))), k=PAGE)
    assert ids(page)[:10] == best(engine, query)[:10]
    open_first(page)
    press(page, "Why this picture")
    page.wait_for_selector("#found dialog .why")


def test_what_is_no_picture(go: Any, visit: Visitor, tmp_path: Path) -> None:
    visit.allowed.append("422")
    page = go()
    text, broken = tmp_path / "a.txt", tmp_path / "broken.jpg"
    text.write_text("words")
    broken.write_text("words")
    note = page.locator("#ask .note")
    for path, said in ((text, "That is no picture"), (broken, "the picture:")):
        data = base64.b64encode(path.read_bytes()).decode()
        page.evaluate(_GIVE, ["drop", path.name, data])
        note.get_by_text(said).wait_for()
    assert len(ids(page)) == PAGE


def test_recent_searches(go: Any) -> None:
    page = go()
    for text in ("a first one", "a second one", "a first one"):
        find(page, text)
    page.reload()
    page.wait_for_selector("[data-drawn]", state="attached")
    offered = page.eval_on_selector_all("#recent option", "(all) => all.map((one) => one.value)")
    assert offered[:2] == ["a first one", "a second one"] and len(offered) == len({*offered})


# Narrowing down.


def test_filters(go: Any, engine: SearchEngine) -> None:
    page = go("/?q=a+dog")
    before = page.evaluate("history.length")
    page.get_by_role("button", name="Filters").click()
    with another(page):
        page.get_by_label("portrait").check()
    portrait = Filters(orientation="portrait")
    assert ids(page) == best(engine, words("a dog", filters=portrait))
    assert status(page).startswith(f"Best of {len(engine.passing(portrait))} of 63 pictures")
    page.get_by_role("button", name="Filters (1)").wait_for()
    page.get_by_label("Taken in or after").fill("2020")
    with another(page):
        page.keyboard.press("Tab")
    both = Filters(orientation="portrait", after="2020")
    assert ids(page) == best(engine, words("a dog", filters=both))
    page.get_by_role("button", name="Filters (2)").wait_for()
    page.get_by_label("Taken in or after").fill("soon")
    with another(page):
        page.keyboard.press("Enter")
    assert "'soon' is no time" in page.locator("#found .banner.error").inner_text()
    assert page.evaluate("history.length") <= before + 3
    with another(page):
        press(page, "Clear filters")
    assert ids(page) == best(engine, words("a dog")) and asked(page) == {"q": ["a dog"]}
    assert page.get_by_label("Taken in or after").input_value() == ""
    assert page.locator("#filters").get_by_role("button", name="Filters").first.is_visible()


def test_a_camera_is_chosen_from_those_there_are(go: Any, engine: SearchEngine) -> None:
    page = go()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Camera").click()
    options = page.get_by_role("option")
    options.first.wait_for()
    assert {one.strip("✓ \n") for one in options.all_inner_texts()} == {
        "Nikon D5 (2)",
        "Canon EOS R5 (2)",
        f"{HOSTILE} (1)",
    }
    with another(page):
        page.get_by_role("option", name="Nikon D5 (2)").click()
    assert status(page) == "2 of 63 pictures, the latest first"
    assert ids(page) == [image_id(engine, "dogs.jpg"), image_id(engine, "alps.jpg")]


def test_a_filter_that_is_moved_is_one_step_back(go: Any) -> None:
    page = go("/?q=a+dog")
    before = page.evaluate("history.length")
    page.get_by_role("button", name="Filters").click()
    slider = page.locator("#filters input[type=range]")
    slider.wait_for()  # one that is still folded away takes no focus
    slider.focus()
    page.evaluate("performance.now = () => 1e6")  # within the time for one step on any machine
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('min_confidence=0.15')")
    assert page.evaluate("history.length") == before + 1


def test_nothing_passes(go: Any) -> None:
    page = go("/?after=2050")
    assert page.locator("#found .banner").inner_text() == "No picture passes these filters."
    assert status(page).startswith("0 of 63 pictures") and ids(page) == []
    with another(page):
        press(page, "Clear filters")
    assert len(ids(page)) == PAGE


def test_more_without_doubles(go: Any, engine: SearchEngine) -> None:
    page = go("/?q=a+dog")
    page.mouse.wheel(0, 20_000)
    page.wait_for_function("document.querySelectorAll('#found .card').length > 48")
    assert ids(page) == best(engine, Query(parse("a dog"), k=100))
    assert page.locator("#found .more").is_hidden()
    assert asked(page) == {"q": ["a dog"]}


# The large view.


def test_large(go: Any, engine: SearchEngine) -> None:
    page = go("/?q=a+cup+of+coffee&camera=canon")
    open_first(page)
    coffee = image_id(engine, "coffee.jpg")
    assert ids(page)[0] == coffee and asked(page)["image"] == [str(coffee)]
    facts = page.locator("#found .facts").inner_text()
    assert "2019-07-01 08:00:00" in facts and "Canon EOS R5" in facts
    assert "a cup of espresso on a saucer" in facts and "coffee.jpg" in facts
    large = page.locator("#found .picture img")
    before = large.get_attribute("src")
    press(page, "Why this picture")
    map_ = page.locator("#found .picture img.why")
    map_.wait_for()
    answer = page.request.get(page.url.split("/?")[0] + map_.get_attribute("src"))
    assert answer.headers["content-type"] == "image/webp" and answer.body()[:4] == b"RIFF"
    assert map_.evaluate("(image) => image.naturalWidth") > 0
    assert "a cup of coffee" in page.locator("#found .reason").inner_text()
    press(page, "Why this picture")
    assert page.locator("#found .picture img").get_attribute("src") == before
    press(page, "Words for this picture")
    told = page.locator("#found .words li button")
    told.first.wait_for()
    expected = [hit.text for hit in engine.texts(Query((Term(image_id=coffee),), k=8))]
    assert told.all_inner_texts() == expected
    with another(page):
        told.first.click()
    assert asked(page)["q"] == [expected[0]] and "image" not in asked(page)


def test_the_path_is_copied(go: Any, pictures: Path) -> None:
    page = go("/?q=a+cup+of+coffee&camera=canon")
    open_first(page)
    press(page, "Copy path")
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == str(pictures / "coffee.jpg")


def test_more_like_this(go: Any, engine: SearchEngine) -> None:
    page = go("/?q=a+dog")
    first = ids(page)[0]
    open_first(page)
    with another(page):
        press(page, "More like this")
    assert ids(page) == best(engine, Query((Term(image_id=first),), k=PAGE))
    assert asked(page) == {"like": [str(first)]} and ids(page)[0] == first
    assert page.locator("#ask .chip img").count() == 1
    assert page.title() == "like a picture – rwkvsearch"
    with another(page):
        page.go_back()
    assert ids(page) == best(engine, words("a dog"))
    assert not page.locator("#found dialog").is_visible()


def test_the_address_of_a_picture(go: Any, visit: Visitor, engine: SearchEngine) -> None:
    coffee = image_id(engine, "coffee.jpg")
    page = go(f"/?image={coffee}")
    page.locator("#found .facts .path").wait_for()
    assert page.locator("#found .title").inner_text() == "coffee.jpg"
    page.reload()
    page.locator("#found .facts .path").wait_for()
    assert asked(page) == {"image": [str(coffee)]}
    page.keyboard.press("Escape")
    page.wait_for_function("location.search === ''")
    # One that is not among the hits that are there is shown as well.
    last = best(engine, Query(parse("a dog"), k=100))[-1]
    page = go(f"/?q=a+dog&image={last}")
    page.locator("#found .facts .path").wait_for()
    assert asked(page) == {"q": ["a dog"], "image": [str(last)]}
    visit.allowed.append("404")
    page = go("/?image=4000")
    page.get_by_text("there is no image 4000").wait_for()


def test_steps_go_on_behind_what_is_loaded(go: Any) -> None:
    page = go("/?q=a+dog")
    page.evaluate(f"document.querySelectorAll('#found .card')[{PAGE - 2}].click()")
    page.wait_for_selector("#found dialog[open]")
    title = page.locator("#found .title")
    page.keyboard.press("ArrowRight")
    last = title.inner_text()
    page.evaluate(_SWIPE, [300, 100])
    page.wait_for_function("document.querySelectorAll('#found .card').length > 48")
    shown = ids(page)
    page.wait_for_function(f"location.search.includes('image={shown[PAGE]}')")
    page.evaluate(_SWIPE, [100, 300])
    assert title.inner_text() == last and asked(page)["image"] == [str(shown[PAGE - 1])]
    page.evaluate(_SWIPE, [100, 120])  # no swipe
    assert title.inner_text() == last
    assert page.get_by_role("button", name="Next", exact=True).is_enabled()


# Votes and albums.


def test_votes_are_in_the_address(go: Any, engine: SearchEngine) -> None:
    page = go("/?q=a+building")
    liked, disliked = ids(page)[3], ids(page)[0]
    page.locator(f"#found .card[data-id='{liked}']").click()
    with another(page):
        press(page, "Like")
    assert asked(page)["liked"] == [str(liked)]
    assert ids(page) == best(engine, words("a building", liked=(liked,)))
    page.locator(f"#found .card[data-id='{disliked}']").click()
    with another(page):
        press(page, "Not this")
    query = words("a building", liked=(liked,), disliked=(disliked,))
    assert ids(page) == best(engine, query) != best(engine, words("a building"))
    page.reload()
    page.wait_for_selector("[data-drawn]", state="attached")
    assert ids(page) == best(engine, query)
    page.locator(f"#found .card[data-id='{liked}']").click()
    assert (
        page.get_by_role("button", name="Like", exact=True).get_attribute("aria-pressed") == "true"
    )
    with another(page):
        press(page, "Like")
    assert "liked" not in asked(page) and asked(page)["disliked"] == [str(disliked)]


def test_albums(go: Any, engine: SearchEngine, server: Server) -> None:
    name = f"of a test {HOSTILE}/?&"
    page = go("/?q=water&orientation=landscape")
    press(page, "Save as album")
    page.keyboard.type(name)
    with another(page):
        page.keyboard.press("Enter")
    assert asked(page) == {"album": [name]}
    assert f"Kept as the album {name!r}." in page.locator("#found .banner").inner_text()
    filters = Filters(orientation="landscape")
    assert ids(page) == best(engine, words("water", filters=filters))
    liked = ids(page)[2]
    page.locator(f"#found .card[data-id='{liked}']").click()
    with another(page):
        press(page, "Like")
    query = words("water", filters=filters, liked=(liked,))
    assert ids(page) == best(engine, query)
    kept = page.request.get(f"{server.url}/api/v1/albums/{quote(name, safe='')}").json()
    assert kept["liked"] == [liked]
    page.reload()
    page.wait_for_selector("[data-drawn]", state="attached")
    assert ids(page) == best(engine, query) and page.title() == f"{name} – rwkvsearch"
    with another(page):
        page.get_by_role("button", name=name, exact=True).click()
    assert asked(page) == {} and status(page) == "63 pictures, the latest first"
    with another(page):
        page.get_by_role("button", name=name, exact=True).click()
    assert ids(page) == best(engine, query)
    find(page, "water")
    press(page, "Save as album")
    page.keyboard.type(name)
    with another(page):
        page.keyboard.press("Enter")
    assert "already" in page.locator("#found .banner.error").inner_text()
    page.request.delete(f"{server.url}/api/v1/albums/{quote(name, safe='')}")


# Hands, eyes and ears.


def test_keyboard_alone(go: Any, engine: SearchEngine) -> None:
    page = go()
    page.keyboard.press("/")
    page.keyboard.type("a dog")
    with another(page):
        page.keyboard.press("Enter")
    shown = ids(page)
    for _ in range(20):
        page.keyboard.press("Tab")
        if focused(page) == shown[0]:
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == shown[2]
    page.keyboard.press("ArrowDown")
    below = focused(page)
    assert shown.index(below) > 2
    page.keyboard.press("ArrowUp")
    assert shown.index(focused(page)) < 4
    page.keyboard.press("Home")
    assert focused(page) == shown[0]
    page.keyboard.press("Enter")
    page.wait_for_selector("#found dialog[open]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"location.search.includes('image={shown[1]}')")
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('image')")
    assert focused(page) == shown[1]
    with another(page):
        page.keyboard.press("l")
    assert asked(page)["liked"] == [str(shown[1])]
    page.locator("#found .card").first.focus()
    with another(page):
        page.keyboard.press("d")
    assert "disliked" in asked(page)
    page.locator("#found .card").nth(3).focus()
    like = focused(page)
    with another(page):
        page.keyboard.press("m")
    assert asked(page) == {"like": [str(like)]}


def focused(page: Any) -> int | None:
    found = page.evaluate("document.activeElement.dataset.id")
    return int(found) if found else None


@pytest.mark.parametrize("width", [320, 390])
def test_small_screens(go: Any, width: int) -> None:
    page = go("/?q=a+dog&like=3&orientation=landscape", width=width, height=800)
    page.get_by_role("button", name="Filters (1)").click()
    page.get_by_label("Taken in or after").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    check_buttons(page, "#ask button, #found button")
    open_first(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#found .side").evaluate("(one) => one.scrollWidth <= one.clientWidth")
    check_buttons(page, "#found dialog button, #found dialog .button")


def check_buttons(page: Any, selector: str) -> None:
    """All that can be seen are large enough for a finger."""
    shown = [one for one in page.locator(selector).all() if one.is_visible()]
    assert len(shown) > 2
    for one in shown:
        assert one.bounding_box()["height"] >= 32, one.inner_text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("by", ["address", "system"])
def test_light_and_dark(go: Any, dark: bool, by: str) -> None:
    scheme = "dark" if dark else "light"
    address, options = "/?q=a+dog&orientation=portrait", {"color_scheme": scheme}
    page = go(f"{address}&__theme={scheme}") if by == "address" else go(address, **options)
    text, behind = page.locator("#found .grid").evaluate(_COLOURS)
    assert (luminance(behind) < 0.1) is dark and contrast(text, behind) > 7
    open_first(page)
    for one in ("#found .said span", "#found dt", "#found dd", "#found .actions button"):
        text, behind = page.locator(one).first.evaluate(_COLOURS)
        assert contrast(text, behind) >= 4.5, one
    page.keyboard.press("Escape")
    placeholder = page.evaluate(
        "getComputedStyle(document.querySelector('#ask input[type=search]'), '::placeholder').color"
    )
    _, behind = page.locator("#ask form").evaluate(_COLOURS)
    assert contrast(placeholder, behind) >= 4.5


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_everything_has_a_name_and_shows_its_focus(go: Any) -> None:
    page = go("/?q=a+dog&like=3&orientation=portrait")
    open_first(page)
    nameless = page.eval_on_selector_all(
        "#ask button, #found button, #found a",
        """(all) => all.filter((one) => !(one.innerText || one.getAttribute("aria-label") ||
             one.querySelector("img[alt]:not([alt=''])"))).map((one) => one.outerHTML)""",
    )
    assert nameless == []
    assert page.locator("#found img:not([alt]), #ask img:not([alt])").count() == 0
    unseen = "(one) => getComputedStyle(one).outlineStyle === 'none'"
    for _ in range(6):
        page.keyboard.press("Tab")
        assert not page.locator(":focus").evaluate(unseen)
    page.keyboard.press("Escape")
    assert not page.locator(":focus").evaluate(unseen)
    assert page.locator("#found [role=status]").count() == 1


# Bad days.


def test_a_hostile_name_is_text(go: Any, engine: SearchEngine) -> None:
    hostile = image_id(engine, f"{HOSTILE}.jpg")
    page = go(f"/?like={hostile}")
    assert page.locator("#ask .chip").inner_text().startswith(f"{HOSTILE}.jpg")
    open_first(page)
    assert page.locator("#found .title").inner_text() == f"{HOSTILE}.jpg"
    assert f"made {HOSTILE}" in page.locator("#found .path").inner_text()
    page.keyboard.press("Escape")
    page = go(f"/?image={image_id(engine, 'wren.jpg')}")
    facts = page.locator("#found .facts")
    facts.get_by_text(HOSTILE).first.wait_for()
    assert facts.inner_text().count(HOSTILE) == 2
    page = go(f"/?q={quote(HOSTILE)}")
    assert page.locator("#ask input[type=search]").input_value() == HOSTILE
    assert page.locator("img[src=x]").count() == 0


def test_a_picture_that_has_gone(
    browser: Any, server: Server, engine: SearchEngine, library: Path, pictures: Path
) -> None:
    lost = next(pictures.glob("made*/lost.jpg"))
    kept = lost.read_bytes()
    answer = image_id(engine, "lost.jpg")
    try:
        lost.unlink()
        for thumb in (library / "thumbs").rglob("*.webp"):
            thumb.unlink()
        with visiting(browser, server) as visit:
            visit.allowed += ["404", "503"]
            page = visit(f"/?like={answer}")
            card = page.locator(f"#found .card.lost[data-id='{answer}']")
            card.wait_for()
            assert card.locator(".name").inner_text() == "lost.jpg"
            name = card.locator(".name").element_handle()
            page.wait_for_function("(one) => getComputedStyle(one).opacity == 1", arg=name)
            card.click()
            page.get_by_text("lost.jpg cannot be read now.").wait_for()
            press(page, "Why this picture")
            assert "lost.jpg" in page.locator("#found .wrong").inner_text()
    finally:
        lost.write_bytes(kept)


def test_an_answer_that_takes_long_or_fails(go: Any, visit: Visitor) -> None:
    visit.allowed += ["500", "Could not"]
    page = go()
    held: list[Any] = []
    page.route("**/gradio_api/run/predict*", lambda route: held.append(route))
    page.fill("#ask input[type=search]", "a dog")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found .pending.on")
    with another(page):
        held[0].continue_()
    assert page.locator("#found .pending.on").count() == 0 and asked(page) == {"q": ["a dog"]}
    page.unroute("**/gradio_api/run/predict*")
    page.route("**/gradio_api/run/predict*", lambda route: route.fulfill(status=500, body="{}"))
    page.fill("#ask input[type=search]", "snow")
    page.keyboard.press("Enter")
    page.locator("#found .banner.error").get_by_text("did not answer this").wait_for()
    assert len(ids(page)) == PAGE  # what was there is still there
    page.unroute("**/gradio_api/run/predict*")
    with another(page):
        press(page, "Ask again")
    assert asked(page) == {"q": ["snow"]}


def test_the_server_is_stopped(library: Path, browser: Any) -> None:
    with serving(library) as server, visiting(browser, server) as visit:
        visit.allowed += UNREACHABLE
        page = visit("/?q=a+dog")
        page.wait_for_selector("#found .card")
        assert server.stop() == 0
        page.fill("#ask input[type=search]", "snow")
        page.keyboard.press("Enter")
        page.locator("#found .banner.error").get_by_text("does not answer").wait_for()
        page.locator("#found .card").first.click()
        page.locator("#found .wrong").get_by_text("does not answer").wait_for()


def test_nothing_is_kept_in_the_browser_but_the_words(go: Any) -> None:
    page = go()
    find(page, "a private question")
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    local, session = json.loads(kept)
    assert [name for name in local if "a private" in local[name]] == ["rwkvsearch.recent"]
    assert not any("a private" in value for value in session.values())
