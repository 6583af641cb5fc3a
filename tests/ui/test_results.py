import csv
import io
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from PIL import Image

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Hit, TextHit
from rwkvsearch.ui.results import OutputOptions, hits_as_json, hits_as_table, open_hits, render
from rwkvsearch.ui.terminal import PATIENCE, Terminal
from rwkvsearch.ui.thumbnails import HEIGHT, WIDTH, are_usual, draw, table_with_thumbnails

from .conftest import Run, make_picture

STRANGE = Path("/a/new\nline \udcff\U0001f436.jpg")
HITS = [
    Hit(1, 7, (Path("/a/one.jpg"), Path("/b/copy, 2.jpg")), 0.98765432, 0.994, (0.98765432,)),
    Hit(2, 3, (STRANGE,), -0.5),
]
TEXTS = [TextHit(1, 'a "dog",\na cat', 0.4, (3, 7)), TextHit(2, "snow", 0.25)]


def test_table() -> None:
    assert hits_as_table(HITS).splitlines() == [
        "rank   score  confidence  path",
        "   1   0.988        0.99  /a/one.jpg",
        "        same              /b/copy, 2.jpg",
        "   2  -0.500        0.00  /a/new\\nline \\udcff\U0001f436.jpg",
    ]
    assert hits_as_table([]) == render([], {}, "table") == ""
    assert render(TEXTS, {}, "table").splitlines() == [
        "rank   score  text",
        '   1   0.400  a "dog",\\na cat',
        "   2   0.250  snow",
    ]


def test_json() -> None:
    answer = json.loads(hits_as_json({"query": "dog"}, HITS))
    assert answer["query"] == "dog"
    assert answer["hits"][0] == {
        "rank": 1,
        "path": "/a/one.jpg",
        "score": 0.987654,
        "confidence": 0.994,
        "image_id": 7,
        "paths": ["/a/one.jpg", "/b/copy, 2.jpg"],
        "terms": [0.987654],
    }
    assert answer["hits"][1]["path"] == str(STRANGE)
    text = json.loads(render(TEXTS, {}, "json"))["hits"][0]
    assert text == {"rank": 1, "text": TEXTS[0].text, "score": 0.4, "image_ids": [3, 7]}


def test_json_lines() -> None:
    lines = render(HITS, {"query": "dog"}, "jsonl")
    assert lines.isascii() and lines.endswith("}\n")
    assert [json.loads(line) for line in lines.splitlines()] == json.loads(hits_as_json({}, HITS))[
        "hits"
    ]
    assert render([], {}, "jsonl") == ""


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(render(HITS, {}, "csv"))))
    assert [row["path"] for row in rows] == ["/a/one.jpg", str(STRANGE)]
    assert rows[0] | {"path": ""} == {
        "rank": "1",
        "score": "0.987654",
        "confidence": "0.994",
        "path": "",
        "image_id": "7",
    }
    assert render([], {}, "csv") == "rank,score,confidence,path,image_id\n"
    odd = render([TextHit(1, "carriage\rreturn", 0.5)], {}, "csv")
    assert list(csv.reader(io.StringIO(odd, newline="")))[1:] == [["1", "0.5", "carriage\rreturn"]]
    texts = list(csv.DictReader(io.StringIO(render(TEXTS, {}, "csv"))))
    assert texts[0] == {"rank": "1", "score": "0.4", "text": TEXTS[0].text}


def test_paths() -> None:
    assert render(HITS, {}, "paths") == f"/a/one.jpg\n{STRANGE}\n"
    names = os.fsencode(render(HITS, {}, "null")).split(b"\0")
    assert names == [b"/a/one.jpg", os.fsencode(STRANGE), b""]
    assert render(TEXTS, {}, "null") == f"{TEXTS[0].text}\0snow\0"


@pytest.mark.parametrize(
    "options",
    [
        OutputOptions(as_json=True, as_csv=True),
        OutputOptions(as_jsonl=True, null=True),
        OutputOptions(as_json=True, as_paths=True),
        OutputOptions(html=Path("precious.jpg")),
    ],
)
def test_refuses_contradictions(options: OutputOptions) -> None:
    with pytest.raises(typer.BadParameter):
        options.check()


def test_checks() -> None:
    OutputOptions(as_paths=True, null=True).check()
    assert OutputOptions(as_paths=True, null=True).format() == "null"
    OutputOptions(html=Path("page.HTML")).check()
    for options in OutputOptions(html=Path("page.html")), OutputOptions(open_hits=True):
        with pytest.raises(typer.BadParameter, match="--to text"):
            options.check(texts=True)


def test_thumbnails_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    OutputOptions(thumbnails=True).check()
    monkeypatch.setattr("rwkvsearch.ui.thumbnails.find_spec", lambda name: None)
    with pytest.raises(RwkvSearchError, match=r"pip install 'rwkvsearch\[terminal\]'"):
        OutputOptions(thumbnails=True).check()
    OutputOptions().check()
    assert not are_usual()


def test_thumbnails_are_usual_where_there_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert are_usual()
    monkeypatch.setenv("TERM", "dumb")
    assert not are_usual()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not are_usual()


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # the viewer is not waited for
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_opens_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    viewer, seen = tmp_path / "bin" / "xdg-open", tmp_path / "seen"
    viewer.parent.mkdir()
    viewer.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> {seen}\n')
    viewer.chmod(viewer.stat().st_mode | stat.S_IXUSR)
    there = tmp_path / "$(touch evil); a 'picture'.jpg"
    there.touch()
    hits = [
        Hit(1, 1, (tmp_path / "gone.jpg", there), 0.5),
        Hit(2, 2, (tmp_path / "shard.tar" / "a.jpg",), 0.4),
    ]
    monkeypatch.setenv("PATH", str(viewer.parent), prepend=os.pathsep)
    open_hits(hits)
    end = time.monotonic() + 10
    while not seen.exists() or not seen.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert seen.read_text() == f"{there}\n"
    assert "not opened" in capfd.readouterr().err and not (tmp_path / "evil").exists()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RwkvSearchError, match="no program to open pictures"):
        open_hits(hits)


@pytest.mark.filterwarnings("ignore:Image.Image.getdata")  # by textual-image 0.12
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (4000, 3), (3, 4000), (1, 1)])
def test_draws_whole_lines(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    lines = draw(Image.new("RGB", size, (255, 0, 0)), Terminal()).split("\n")
    assert lines.pop() == "" and 1 <= len(lines) <= HEIGHT
    assert {line.count("▀") for line in lines} <= set(range(1, WIDTH + 1))
    assert "38;2;255;0;0" in lines[0]


@pytest.mark.parametrize(("graphics", "mark"), [("kitty", "\x1b_G"), ("sixel", "\x1bP")])
def test_draws_as_the_terminal_can(
    graphics: str, mark: str, capfd: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(graphics, 80, (8, 16))  # type: ignore[arg-type]
    drawn = draw(Image.new("RGB", (64, 64), (0, 0, 255)), terminal)
    assert mark in drawn and drawn.count("\n") == HEIGHT
    assert capfd.readouterr() == ("", "")


SHOW = """
import sys
from pathlib import Path
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.ui.results import OutputOptions
with Library.open(Path(sys.argv[1])) as library:
    found = library.paths_of([1, 2, 3]).items()
    hits = [Hit(rank, one, tuple(paths), 0.5) for rank, (one, paths) in enumerate(found, 1)]
    wish = {"yes": True, "no": False}.get(sys.argv[2])
    OutputOptions(thumbnails=wish).show(hits, {}, library)
assert "torch" not in sys.modules
"""
LEAD = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the terminal of this session
os.execvp(sys.argv[1], sys.argv[1:])
"""
QUESTION = "\x1b[c"


@dataclass
class Terminals:
    """Show three hits in new pseudo-terminals; `seen` is what the last one was sent."""

    home: Path
    seen: str = ""

    def show(
        self, wish: str = "", *, answer: str = "", term: str = "xterm-256color", shell: str = ""
    ) -> float:
        """Show them where the question gets an answer, by `shell` if given; seconds taken."""
        command = [sys.executable, "-c", SHOW, str(self.home), wish]
        command = ["bash", "-c", shell, *command] if shell else command
        kept = ("PATH", "COVERAGE_PROCESS_START", "VIRTUAL_ENV")
        environ = {name: os.environ[name] for name in kept if name in os.environ}
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", LEAD, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environ | {"TERM": term, "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        try:
            seen = self._talk(ours, process, answer.encode())
            assert process.wait(10) == 0, seen
            assert termios.tcgetattr(theirs) == before
        finally:
            process.kill()
            process.wait()
            os.close(ours)
            os.close(theirs)
        self.seen = seen.decode()
        return time.monotonic() - began

    def _talk(self, ours: int, process: subprocess.Popen[bytes], answer: bytes) -> bytes:
        seen, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.05)[0]:
                seen += os.read(ours, 65536)
                if answer and QUESTION.encode() in seen:
                    os.write(ours, answer)
                    answer = b""
            elif process.poll() is not None:
                return seen
        raise AssertionError(f"it hangs after {seen!r}")


@pytest.fixture
def terminals(indexed: Path, home: Path) -> Terminals:
    return Terminals(home)


def test_half_blocks_in_a_terminal(terminals: Terminals) -> None:
    terminals.show(answer="\x1b[?62;22c")
    lines = terminals.seen.split("\r\n")
    assert "rank   score  confidence  path" in lines[0]
    rows = [line for line in lines if re.fullmatch(r" +\d   0\.500 +0\.00  .*\.png", line)]
    assert len(rows) == 3
    assert sum("▀" in line for line in lines) == 3 * HEIGHT
    assert "\x1b_G" not in terminals.seen and "\x1bP" not in terminals.seen


def test_sixel_where_the_terminal_says_so(terminals: Terminals) -> None:
    terminals.show(answer="\x1b[6;16;8t\x1b[?62;4;22c")
    assert terminals.seen.count("\x1bP") == 3 and "▀" not in terminals.seen


def test_kitty_is_not_asked(terminals: Terminals) -> None:
    terminals.show(term="xterm-kitty")
    assert terminals.seen.count("\x1b_Ga=p") == 3 and QUESTION not in terminals.seen


def test_a_terminal_that_never_answers(terminals: Terminals) -> None:
    quick = terminals.show("no")
    assert QUESTION not in terminals.seen and "▀" not in terminals.seen
    slow = terminals.show()
    assert QUESTION in terminals.seen and "▀" in terminals.seen
    assert slow < quick + PATIENCE + 10


def test_the_background_is_not_stopped(terminals: Terminals) -> None:
    terminals.show(shell='set -m; "$0" "$@" & wait $!')
    assert QUESTION not in terminals.seen and "▀" in terminals.seen


def test_a_name_does_not_steer_the_terminal(photos: Path, home: Path, run: Run) -> None:
    evil = make_picture(photos / "\x1b[2J\n.png", 9)
    assert run("index", photos).code == 0
    evil.unlink()
    with Library.open(home) as library:
        (image_id,) = (n for n, found in library.paths_of(range(1, 20)).items() if evil in found)
        shown = [*table_with_thumbnails([Hit(1, image_id, (evil,), 0.5)], library)]
    assert shown[1].count("\\x1b[2J\\n.png") == 2 and "cannot be read now" in shown[1]
    assert "\x1b" not in shown[1]


def test_no_pictures_in_a_pipe(indexed: Path, home: Path) -> None:
    command = [sys.executable, "-c", SHOW, str(home), "yes"]
    piped = subprocess.run(command, capture_output=True, check=True, text=True)
    assert len(piped.stdout.splitlines()) == 4 and piped.stderr == ""
    assert "\x1b" not in piped.stdout and "▀" not in piped.stdout
