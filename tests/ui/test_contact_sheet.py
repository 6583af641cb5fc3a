import base64
import io
import os
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from PIL import Image

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.ui.contact_sheet import SIDE, contact_sheet, write_contact_sheet

from .conftest import Run, make_picture

EVIL = "<script>alert(1)</script>\"'&.png"


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [str(found[attribute]) for name, found in self.tags if name == tag]


@pytest.fixture
def hits(indexed: Path, home: Path, run: Run) -> list[Hit]:
    """Of a plain picture, one with an evil name, one in a shard and one that is gone."""
    evil = make_picture(indexed / os.fsdecode(b"\xff" + EVIL.replace("/", "_").encode()), 90)
    shard = indexed.parent / "more.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(make_picture(indexed.parent / "member.png", 91), "in/member.png")
    assert run("index", indexed, shard).code == 0
    with Library.open(home) as library:
        paths = library.paths_of(range(1, 20))
    chosen = [indexed / "0.png", evil, shard / "in/member.png", indexed / "1.png"]
    (indexed / "1.png").unlink()
    ids = {path: image_id for image_id, found in paths.items() for path in found}
    return [Hit(rank, ids[p], (p,), 1 / rank, 0.5) for rank, p in enumerate(chosen, 1)]


def test_everything_is_inside(hits: list[Hit], home: Path) -> None:
    with Library.open(home) as library:
        page = Page("".join(contact_sheet(hits, {"query": "a dog", "model": "tiny"}, library)))
    sources = page.all("img", "src")
    assert len(sources) == 3
    for source in sources:
        head, _, data = source.partition(",")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert head == "data:image/jpeg;base64" and max(image.size) <= SIDE
    links = {urlsplit(found["href"]).scheme for _, found in page.tags if found.get("href")}
    assert links == {"file"}
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "base"})
    assert "url(" not in page.text and "@import" not in page.text
    for words in ("a dog", "4 pictures, tiny", "score 0.333", "confidence 0.50", "cannot be read"):
        assert words in page.text


def test_links_lead_to_the_files(hits: list[Hit], home: Path) -> None:
    with Library.open(home) as library:
        page = Page("".join(contact_sheet(hits, {}, library)))
    linked = {unquote_to_bytes(urlsplit(href).path) for href in page.all("a", "href")}
    assert linked == {os.fsencode(hit.path) for hit in hits[:2]}  # neither a member nor one gone


def test_names_and_queries_do_not_run(hits: list[Hit], home: Path) -> None:
    asked = {"query": "</title><script>alert(2)</script>", "image": "\"><img src=x onerror='x'>"}
    with Library.open(home) as library:
        text = "".join(contact_sheet(hits, asked, library))
    page = Page(text)
    assert "<script" not in text and len(page.all("img", "src")) == 3
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    for shown in (*asked.values(), "<script>alert(1)<_script>"):
        assert shown in page.text


def test_written_whole_or_not_at_all(
    hits: list[Hit], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "page.html"
    with Library.open(home) as library:
        with pytest.raises(RwkvSearchError, match=r"cannot write .*page\.html: No such file"):
            write_contact_sheet(target, hits, {}, library)
        target.parent.mkdir()
        target.write_text("old")
        monkeypatch.setattr("rwkvsearch.ui.contact_sheet._thumbnail", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_contact_sheet(target, hits, {}, library)
        assert target.read_text() == "old"
        monkeypatch.undo()
        write_contact_sheet(target, hits, {}, library)
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def _interrupted(*_: object) -> bytes:
    raise KeyboardInterrupt
