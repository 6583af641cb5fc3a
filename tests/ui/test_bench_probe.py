"""`bench probe` as a person runs it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.retrieval.encoder import Encoder

from .conftest import Run

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue_sky": (40, 60, 220)}


def make_set(root: Path, each: int, seed: int) -> Path:
    """A folder for each colour, with pictures of it that no other is like."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(each):
            noise = random.integers(-25, 25, (16, 16, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return make_set(tmp_path / "colours-train", 6, 1)


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return make_set(tmp_path / "colours-test", 4, 2)


def test_colours_are_told_apart(run: Run, train: Path, test: Path) -> None:
    asked = ("bench", "probe", "--train", train, "--test", test)
    told = run(*asked, "--json", "--per-class")
    assert (told.code, told.err) == (0, "")
    found = json.loads(told.out)
    assert found["top1"] == found["validation_top1"] == 100
    assert (found["images"], found["classes"], found["train"]) == (12, 3, 18)
    assert (found["validation"], found["test_also_in_train"], found["mixed_up"]) == (3, 0, [])
    assert found["l2"] in [one["l2"] for one in found["tried"]]
    assert {one["class"] for one in found["per_class"]} == {"red", "green", "blue sky"}
    first, second, third, *_ = run(*asked).out.splitlines()
    assert first.startswith(f"{found['model']}: linear probe, top-1 100.0 % [100.0, 100.0]")
    assert second == "12 images, 3 classes; trained on 18, 3 of them held out for the strength"
    assert third.endswith("100.0 % on those held out; 32 features, before normalisation")


def test_a_second_run_encodes_nothing(
    run: Run, train: Path, test: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("bench", "probe", "--train", train, "--test", test, "--json")
    first = run(*asked)
    (kept,) = (home / "features").iterdir()
    assert kept.name.startswith("starter-") and kept.name.endswith("-32.sqlite")

    def refuse(*_: object) -> None:
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(Encoder, "encode_features", refuse)
    assert run(*asked).out == first.out != ""


def test_one_set_is_split(run: Run, train: Path) -> None:
    found = json.loads(run("bench", "probe", "--data", train, "--json").out)
    assert (found["images"], found["train"], found["validation"]) == (3, 15, 3)
    assert found["test_also_in_train"] == 0


def test_saved(run: Run, indexed: Path, home: Path, train: Path, test: Path) -> None:
    done = run("bench", "probe", "--train", train, "--test", test, "--json", "--save")
    (path,) = (home / "benchmarks").iterdir()
    assert done.err == f"kept: {path}\n" and path.name.endswith("Z-probe-colours-test.json")
    kept = json.loads(path.read_text())
    assert (kept["kind"], kept["results"]) == ("probe", json.loads(done.out))
    settings = {"features": "before normalisation", "split": False}
    assert kept["settings"] == settings | {"precision": "fp32", "device": "cpu"}


def test_faults(run: Run, train: Path, test: Path) -> None:
    for wrong in ((), ("--train", train), ("--train", train, "--data", train), ("--test", test)):
        assert "give --train and --test, or --data" in run("bench", "probe", *wrong).err
    (test / "green").rename(test / "grey")
    unknown = run("bench", "probe", "--train", train, "--test", test)
    wanted = "colours-test: 1 of its 3 labels are not in colours-train, the first is 'grey'"
    assert (unknown.code, unknown.out, unknown.err) == (1, "", f"rwkvsearch: {wanted}\n")


def test_pictures_that_are_in_both_are_told(run: Run, train: Path, test: Path) -> None:
    (test / "red" / "0.png").write_bytes((train / "red" / "0.png").read_bytes())
    (train / "red" / "bad.png").write_bytes(b"nothing")
    found = run("bench", "probe", "--train", train, "--test", test)
    assert "note: trained on 1 picture of the test, too" in found.out
    assert "; 1 unreadable left out" in found.out
    assert found.err == f"skipped {train}/red/bad.png: not an image\n"
