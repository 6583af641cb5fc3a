"""`rwkvsearch backup` and `restore`, as a person runs them."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from .conftest import Run

CHILD = """
import sys, time
from rwkvsearch.indexer.backup import make
from rwkvsearch.ui.cli import main
write = make.write_backup
def slow(*arguments):
    print("writing", flush=True)
    time.sleep(60)
make.write_backup = slow
main()
"""


def test_there_and_back(run: Run, indexed: Path, home: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "library.tar", tmp_path / "new"
    assert run("album", "save", "blue", "a blue square").code == 0
    said = run("backup", file)
    assert said.code == 0 and said.err == ""
    assert re.fullmatch(
        r"8 images, 8 files, 8 embeddings, 1 album; 0\.\d MB; [\d.]+ s\nbackup: .*/library\.tar\n",
        said.out,
    )
    checked = run("restore", file, "--check")
    assert checked.code == 0 and checked.out.endswith("library.tar: whole\n")
    restored = run("restore", file, "--library", new)
    assert restored.code == 0 and f"of {home}" in restored.out
    assert restored.out.endswith(f"library: {new}\n")
    assert run("doctor", "--full", "--library", new).out.endswith(f"{new}: clean\n")
    asked = ("query", "a blue square", "--json")
    assert run(*asked, "--library", new).out == run(*asked).out
    assert run("album", "list", "--library", new).out == run("album", "list").out
    assert "8 unchanged" in run("index", "--library", new).out


def test_mistakes_are_one_line(run: Run, indexed: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "library.tar"
    assert run("backup", file).code == 0
    content = file.read_bytes()
    (tmp_path / "half.tar").write_bytes(content[: len(content) // 2])
    for words, expected in {
        ("restore", file): "is there: move all of that library away",
        ("restore", tmp_path / "half.tar", "--library", tmp_path / "n"): "is damaged",
        ("restore", tmp_path / "half.tar", "--check"): "is damaged",
        ("restore", indexed / "0.png", "--check"): "is no backup of a library",
        ("restore", tmp_path / "none", "--library", tmp_path / "n"): "cannot be read: No such file",
        ("backup", indexed / "0.png"): "is there and is no backup",
        ("backup", tmp_path / "no" / "x.tar"): "cannot be written: No such file",
        ("backup", file, "--library", tmp_path / "none"): "no library at",
    }.items():
        said = run(*words)
        assert said.code == 1 and said.out == "", words
        assert expected in said.err and said.err.count("\n") == 1, said.err
    assert file.read_bytes() == content


def test_stopped(indexed: Path, home: Path, tmp_path: Path) -> None:
    for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, "backup", tmp_path / "x.tar", "--library", home],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout and process.stdout.readline() == "writing\n"
            process.send_signal(how)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (code, "stopped; no backup was written\n")
        assert not [*tmp_path.glob("*x.tar*")]
