"""`rwkvsearch describe` as a person runs it: offline, with a language model, stopped, gone on."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.descriptions.store import load_descriptions

from .conftest import Run, make_picture

LAUNCH = """
import sys
from pathlib import Path
from rwkvsearch.retrieval import models
from rwkvsearch.ui.cli import main
models._SHIPPED = Path(sys.argv.pop(1))
main()
"""


@pytest.fixture(autouse=True)
def few_words(tmp_path: Path) -> Path:
    """A vocabulary of four words, for speed."""
    (tmp_path / "words.txt").write_text("dog\ncat\ngrass\nbeach\n")
    return tmp_path / "words.txt"


@pytest.fixture
def captioned(photos: Path) -> Path:
    """The eight pictures, each with a caption."""
    for path in photos.glob("*.png"):
        path.with_suffix(".txt").write_text(f"number {path.stem} of eight")
    return photos


def test_offline(captioned: Path, tmp_path: Path, home: Path, run: Run) -> None:
    (captioned / "bad.png").write_text("no picture")
    for name in ("out", "out.jsonl"):
        outcome = run("describe", captioned, "--to", tmp_path / name)
        assert outcome.code == 0
        first, second = outcome.out.splitlines()
        assert first.startswith("9 pictures: 8 raw, 8 synthetic, 8 generated, 1 skipped; ")
        assert second == f"descriptions: {tmp_path / name}"
        assert outcome.err == "skipped bad.png: not an image\n"
        items = load_descriptions(tmp_path / name)
        assert [item.texts["raw"] for item in items] == [
            (f"number {n} of eight",) for n in range(8)
        ]
        assert all(set(item.texts) == {"raw", "synthetic", "generated"} for item in items)
    assert (home / "descriptions.sqlite").is_file()


def test_the_pictures_of_a_library(indexed: Path, tmp_path: Path, run: Run) -> None:
    for arguments in ([], ["--library", tmp_path / "home"]):
        outcome = run("describe", *arguments, "--to", tmp_path / "out.jsonl", "--limit", 5)
        assert outcome.out.startswith("5 pictures: 0 raw, 5 synthetic, 5 generated; ")
    keys = {item.key for item in load_descriptions(tmp_path / "out.jsonl")}
    assert keys <= {str(path) for path in indexed.iterdir()}


def test_the_pictures_of_an_indexed_shard(indexed: Path, tmp_path: Path, run: Run) -> None:
    home, shard = tmp_path / "of-shards", tmp_path / "some.tar"
    names = sorted(path.name for path in indexed.iterdir())[:3]
    with tarfile.open(shard, "w") as archive:
        for name in names:
            archive.add(indexed / name, name)
    assert run("index", shard, "--library", home).code == 0
    outcome = run("describe", "--library", home, "--to", tmp_path / "out.jsonl")
    assert outcome.out.startswith("3 pictures: 0 raw, 3 synthetic, 3 generated; ")
    keys = {item.key for item in load_descriptions(tmp_path / "out.jsonl")}
    assert keys == {str(shard / name) for name in names}


def test_with_a_language_model(
    captioned: Path, tmp_path: Path, run: Run, llm: Any, few_words: Path
) -> None:
    pytest.importorskip("httpx")
    out = tmp_path / "out.jsonl"
    command = ["describe", captioned, "--to", out, "--llm", llm.url, "--vocabulary", few_words]
    command += ["--tries", 1, "--min-confidence", 1]
    llm.plan = lambda question, before: (500 if "number 3" in question else 200, {})
    outcome = run(*command)
    assert outcome.code == 0
    assert "8 raw, 8 synthetic, 7 generated, 1 incomplete" in outcome.out
    assert outcome.err.startswith("incomplete 3.png: generated: HTTP 500")
    assert len(llm.asked) == 8
    llm.plan = lambda question, before: (200, {})
    outcome = run(*command, "--export-instructions", tmp_path / "set.json", "--format", "sharegpt")
    assert "8 generated; " in outcome.out and outcome.err == ""
    assert llm.questions[8:] == ["RAW: number 3 of eight"]  # and nothing else again
    generated = load_descriptions(out)[2].sayings[-1]
    assert (generated.text, generated.provider) == ("number 2 of eight", "endpoint")
    assert generated.model == "tiny-llm?temperature=0.2&max_tokens=120"
    rows = json.loads((tmp_path / "set.json").read_text())
    assert [turn["from"] for turn in rows[7]["conversations"]] == ["human", "gpt"]
    assert "8 instructions: " in outcome.out


def test_the_key_comes_from_a_file_or_the_environment(
    captioned: Path, tmp_path: Path, run: Run, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("httpx")
    command = ["describe", captioned, "--to", tmp_path / "out.jsonl", "--llm", llm.url]
    command += ["--llm-model", "tiny-llm", "--tagger", "none"]
    monkeypatch.setenv("RWKVSEARCH_LLM_KEY", "one")
    assert run(*command).code == 0
    (tmp_path / "key").write_text("two\n")
    assert run(*command, "--temperature", 1, "--llm-key-file", tmp_path / "key").code == 0
    assert llm.keys == {"Bearer one", "Bearer two"}


def test_estimate(captioned: Path, run: Run, llm: Any) -> None:
    pytest.importorskip("httpx")
    assert run("describe", captioned, "--estimate").out.splitlines()[0] == (
        "pictures  8, of which 8 were looked at"
    )
    command = ["describe", captioned, "--estimate", "--llm", llm.url, "--tagger", "none"]
    command += ["--price-in", 1000, "--price-out", 10_000]
    unmeasured = run(*command, "--probes", 0)
    assert "out (not measured)" in unmeasured.out and "asking" not in unmeasured.out
    assert llm.asked == []
    measured = run(*command).out
    assert "tokens    about 800 in, 80 out (measured on 3 requests)" in measured
    assert "cost      about 1.60 in the currency of the prices" in measured
    assert " s a request)" in measured
    assert len(llm.asked) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}"], "say where to write with --to"),
        (["{photos}", "--library", "x", "--to", "x"], "give either a set of pictures or --library"),
        (["{photos}", "--to", "x", "--export-instructions", "y"], "add --llm"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, photos: Path, run: Run) -> None:
    outcome = run("describe", *(text.format(photos=photos) for text in arguments))
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--to", "out"], "absent: no such file or folder"),
        (["{photos}", "--to", "out.csv"], "out.csv: describe writes a folder of shards"),
        (["--to", "out"], "no library at"),
        (["{photos}", "--to", "out", "--tagger", "magic"], "no tagger is called 'magic'"),
        (["{photos}", "--to", "out", "--llm", "nowhere"], "'nowhere' is no address"),
        (["{photos}", "--to", "out", "--cache", "{photos}"], "the cache cannot be used"),
        (["{photos}", "--to", "out", "--split", "val"], "only a caption set has splits"),
        (["{photos}", "--to", "out", "--vocabulary", "absent"], "absent: cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    photos: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("describe", *(text.format(photos=photos) for text in arguments))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("rwkvsearch: ") and message in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_gone_on(
    number: signal.Signals, tmp_path: Path, weights: Path, home: Path, llm: Any
) -> None:
    pytest.importorskip("httpx")
    for seed in range(40):
        path = make_picture(tmp_path / "many" / f"{seed:02}.png", seed)
        path.with_suffix(".txt").write_text(f"picture {seed}")
    llm.delay = 0.1
    options = ["--llm", llm.url, "--concurrency", "2", "--tagger", "none"]
    options += ["--to", str(tmp_path / "out"), "--shard-size", "10"]
    command = [sys.executable, "-c", LAUNCH, str(weights), "describe", str(tmp_path / "many")]

    def start() -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        environment = os.environ | {"RWKVSEARCH_HOME": str(home)}
        return subprocess.Popen(
            [*command, *options], stdout=pipe, stderr=pipe, text=True, env=environment
        )

    process = start()
    until = time.monotonic() + 40
    while len(llm.asked) < 15 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    before = len(llm.asked)
    assert 15 <= before < 40, errors
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors == "stopped; what is done is kept, run the same command to go on\n"
        assert not list(tmp_path.rglob("*.part"))
    llm.delay = 0
    process = start()
    out, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (0, "")
    assert "40 raw, 40 synthetic, 40 generated" in out
    assert len(set(llm.questions)) == 40
    assert len(llm.asked) <= 40 + 2  # only what was under way is asked again
    items = load_descriptions(tmp_path / "out")
    assert [item.texts["generated"] for item in items] == [(f"picture {n}",) for n in range(40)]
    assert len(list((tmp_path / "out").glob("*.tar"))) == 4
