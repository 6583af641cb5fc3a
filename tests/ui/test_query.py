"""`rwkvsearch query` with words, pictures and both; what it says, and what it refuses."""

import http.server
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from rwkvsearch.data.images import read_image

from .conftest import Run, make_picture


def answer(run: Run, *arguments: object) -> dict[str, object]:
    outcome = run("query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, object] = json.loads(outcome.out)
    return found


def ids(run: Run, *arguments: object) -> list[int]:
    return [hit["image_id"] for hit in answer(run, *arguments)["hits"]]  # type: ignore[index, attr-defined]


def test_the_grammar_and_the_options_say_the_same(indexed: Path, run: Run) -> None:
    picture = indexed / "2.png"
    short = answer(run, f"a dog + {picture} - snow")
    long = answer(run, "a dog", "--image", picture, "--not", "snow")
    assert short["hits"] == long["hits"]
    assert short["terms"] == long["terms"] == f"a dog + {picture} - snow"
    assert ids(run, "2:a dog + snow") == ids(run, "snow + 2:a dog")
    assert ids(run, "a dog", "--and", "snow") == ids(run, "snow", "--and", "a dog")


def test_plain_words(indexed: Path, run: Run) -> None:
    assert answer(run, "dog + cat", "--plain")["hits"] != answer(run, "dog + cat")["hits"]
    assert run("query", "--", "- cat").code == 1
    assert run("query", "--plain", "--", "- cat").code == 0


def test_pages(indexed: Path, run: Run) -> None:
    every = ids(run, "a dog", "-k", 8)
    pages = [ids(run, "a dog", "-k", 3, "--offset", offset) for offset in (0, 3, 6, 9)]
    assert [one for page in pages for one in page] == every and not pages[3]
    outcome = run("query", "a dog", "--offset", 8)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "rwkvsearch: there are not more than 8 hits\n"
    for more in ((), ("--min-confidence", 1)):
        outcome = run("query", "a dog", "--offset", 8, *more)
        assert outcome.err == "rwkvsearch: there are not more than 8 hits\n"
    # That the best is in doubt can only be said where it is shown.
    assert run("query", "a dog", "-k", 1, "--offset", 7).err == ""


def test_explain(indexed: Path, run: Run) -> None:
    said = run("query", "2:a dog", "--and", "./x.png - 3", "--plain", "--explain")
    assert said.code == 1 and "x.png - 3: file not found" in said.err
    said = run("query", "2:a dog - snow", "--and", "grass", "--explain").err.splitlines()
    assert [line.split() for line in said[:4]] == [
        ["is", "2", "x", "words", "'a", "dog'"],
        ["is", "not", "1", "x", "words", "'snow'"],
        ["is", "1", "x", "words", "'grass'"],
        ["all", "of", "them", "have", "to", "hold:", "the", "weakest", "counts"],
    ]
    assert any(line.startswith("model   starter-") for line in said)
    assert "search  exact" in said


def test_a_crop_is_a_query_of_its_own(tmp_path: Path, run: Run) -> None:
    photos = tmp_path / "photos"
    parts = [read_image(make_picture(photos / f"{seed}.png", seed)) for seed in range(4)]
    both = Image.new("RGB", (64, 32))
    both.paste(parts[0], (0, 0))
    both.paste(parts[1], (32, 0))
    both.save(tmp_path / "both.png")
    assert run("index", photos).code == 0
    for crop, name in {"0,0,.5,1": "0.png", "50%,0,100%,1": "1.png"}.items():
        hits = answer(run, "--image", tmp_path / "both.png", "--crop", crop)["hits"]
        assert Path(hits[0]["path"]).name == name and hits[0]["score"] > 0.999  # type: ignore[index]


@pytest.mark.parametrize("crop", ["0,0,1", "a,b,c,d", "0,0,0,1", "0,0,2,1", "1,0,0,1", "nan,0,1,1"])
def test_no_such_part(crop: str, indexed: Path, run: Run) -> None:
    outcome = run("query", "--image", indexed / "0.png", "--crop", crop)
    assert outcome.code == 1 and f"{crop!r} is no part of a picture" in outcome.err


def test_a_crop_needs_a_picture(indexed: Path, run: Run) -> None:
    assert run("query", "dog", "--crop", "0,0,1,1").code == 2


def test_a_picture_from_standard_input(
    indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (indexed / "5.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    hits = answer(run, "--image", "-")["hits"]
    assert Path(hits[0]["path"]).name == "5.png"  # type: ignore[index]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"words")))
    outcome = run("query", "--image", "-")
    assert outcome.code == 1 and "standard input: not an image" in outcome.err


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server on this machine that gives what lies in a folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **_: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_picture_behind_an_address(
    address: str, tmp_path: Path, indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = answer(run, "--image", f"{address}/photos/6.png")["hits"]
    assert Path(hits[0]["path"]).name == "6.png"  # type: ignore[index]
    outcome = run("query", "--image", f"{address}/nothing.png")
    assert outcome.code == 1 and "nothing.png: cannot be fetched (HTTP Error 404" in outcome.err
    (tmp_path / "text.png").write_text("words")
    outcome = run("query", "--image", f"{address}/text.png")
    assert outcome.code == 1 and "text.png: not an image" in outcome.err
    monkeypatch.setattr("rwkvsearch.ui.pictures.MAX_DOWNLOAD", 10)
    outcome = run("query", "--image", f"{address}/photos/6.png")
    assert outcome.code == 1 and "larger than" in outcome.err


def test_the_clipboard(indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def clipboard(holds: object) -> None:
        monkeypatch.setattr("PIL.ImageGrab.grabclipboard", lambda: holds)

    for holds in (read_image(indexed / "1.png"), [str(indexed / "1.png")]):
        clipboard(holds)
        hits = answer(run, "--clipboard")["hits"]
        assert Path(hits[0]["path"]).name == "1.png"  # type: ignore[index]
    clipboard(None)
    outcome = run("query", "--clipboard")
    assert outcome.code == 1 and "there is no picture in the clipboard" in outcome.err


def test_texts_of_the_library_and_of_a_file(tmp_path: Path, run: Run) -> None:
    photos = tmp_path / "photos"
    for seed, text in enumerate(["a dog runs", "a red cup", "snow"]):
        make_picture(photos / f"{seed}.png", seed).with_suffix(".txt").write_text(text)
    assert run("index", photos).code == 0
    hits = answer(run, "a red cup", "--to", "text")["hits"]
    assert {hit["text"] for hit in hits} == {"a dog runs", "a red cup", "snow"}  # type: ignore[attr-defined]
    assert hits[0]["text"] == "a red cup" and hits[0]["score"] > 0.999  # type: ignore[index]
    assert len(hits[0]["image_ids"]) == 1  # type: ignore[index]
    (tmp_path / "texts").write_text("one\n\n  two words\none\n")
    for question in (["--image", photos / "0.png"], ["a red cup"]):
        own = answer(run, *question, "--to", "text", "--captions", tmp_path / "texts")["hits"]
        assert {hit["text"] for hit in own} == {"one", "two words"}  # type: ignore[attr-defined]
    (tmp_path / "empty").write_text("\n")
    for name, reason in {"empty": "no texts in it", "nowhere": "cannot be read"}.items():
        outcome = run("query", "x", "--to", "text", "--captions", tmp_path / name)
        assert outcome.code == 1 and reason in outcome.err
    assert run("query", "x", "--captions", tmp_path / "texts").code == 2


def test_a_library_without_texts_says_so(indexed: Path, run: Run) -> None:
    outcome = run("query", "x", "--to", "text")
    assert outcome.code == 1 and "this library has no texts" in outcome.err


def test_doubt_is_said_and_hits_are_shown(indexed: Path, run: Run) -> None:
    hits = answer(run, "a dog")["hits"]
    top = hits[0]["confidence"]  # type: ignore[index]
    outcome = run("query", "a dog", "--min-confidence", min(1.0, top + 0.01))
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("rwkvsearch: no picture reaches a confidence of")
    worst = answer(run, "a dog", "-k", 8)["hits"][-1]  # type: ignore[index]
    among = run("query", "a dog", "--path", Path(worst["path"]).name)
    assert among.err == (
        "rwkvsearch: no confident match: the best of those that pass the filters is at "
        f"{worst['confidence']:.2f}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("x", "--image", "~no-such-user/x.png"), 1, "~no-such-user/x.png: file not found"),
        (("x", "--min-width", 10**30), 1, "the least width of a picture cannot be 1000"),
        (("x", "--to", "text", "--why", "why"), 2, "--why is for pictures"),
        (("9" * 400 + ":x",), 1, "a weight cannot be inf"),
        ((f"x + 0.{'0' * 400}1:y", "--and", "z"), 1, "a weight of 0 asks for nothing"),
    ],
    ids=range(5),
)
def test_odd_values(
    arguments: tuple[object, ...], code: int, reason: str, indexed: Path, run: Run
) -> None:
    outcome = run("query", *arguments)
    assert (outcome.code, outcome.out) == (code, "") and reason in outcome.err
    assert code == 2 or outcome.err.count("\n") == 1


def test_why_writes_a_picture_for_each_hit(indexed: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("query", "a dog - snow", "-k", 2, "--why", tmp_path / "why")
    assert outcome.code == 0 and "a dog" in outcome.err and "- snow" in outcome.err
    files = sorted((tmp_path / "why").iterdir())
    assert [file.name[:4] for file in files] == ["001 ", "002 "]
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "JPEG"


def test_why_goes_on_behind_a_hit_that_has_gone(indexed: Path, tmp_path: Path, run: Run) -> None:
    first, second = (Path(path) for path in run("query", "dog", "-k", 2, "--paths").out.split())
    first.unlink()
    outcome = run("query", "dog", "-k", 2, "--why", tmp_path / "why")
    assert outcome.code == 1 and f"{first}: not there or changed since" in outcome.err
    assert [file.name for file in (tmp_path / "why").iterdir()] == [f"002 {second.stem}.jpg"]
    (tmp_path / "file").write_text("")
    outcome = run("query", "dog", "--why", tmp_path / "file")
    assert outcome.code == 1 and "is no folder" in outcome.err


def test_an_error_is_one_line_whatever_is_in_it(indexed: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("query", "--image", tmp_path / "two\nlines\x1b.jpg")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "\x1b" not in outcome.err


def test_export(indexed: Path, tmp_path: Path, run: Run) -> None:
    paths = [Path(hit["path"]) for hit in answer(run, "a dog", "-k", 3)["hits"]]  # type: ignore[attr-defined]
    for how in ("--copy", "--symlink"):
        folder = tmp_path / how
        outcome = run("export", folder, "a dog", "-k", 3, how)
        assert outcome.code == 0 and outcome.err == f"3 files in {folder}\n", outcome.err
        files = sorted(folder.iterdir())
        assert [file.name[4:] for file in files] == [path.name for path in paths]
        assert [file.read_bytes() for file in files] == [path.read_bytes() for path in paths]
        assert all(file.is_symlink() == (how == "--symlink") for file in files)
    outcome = run("export", tmp_path / "--copy", "a dog")
    assert outcome.code == 1 and "is not empty" in outcome.err
    assert run("export", tmp_path / "x", "a dog", "--copy", "--symlink").code == 2
