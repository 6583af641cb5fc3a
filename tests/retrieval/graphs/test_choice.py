"""Which engine an encoder takes, what it remembers, and that embeddings do not depend on it."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.graphs import choice
from rwkvsearch.retrieval.models import read_card

needs_openvino = pytest.mark.skipif(
    choice.find_spec("openvino") is None, reason="the extra `openvino` is not installed"
)
TEXTS = ["a dog", "two people on a beach", "!"]


@pytest.fixture
def home(installed_home: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test's own with the tiny model in it."""
    home = tmp_path / "home"
    shutil.copytree(installed_home[0], home)
    monkeypatch.setenv("RWKVSEARCH_HOME", str(home))
    return home


@pytest.fixture
def name(installed_home: tuple[Path, str], home: Path) -> str:
    return installed_home[1]


def remember(card_of: str, used: bool) -> None:
    measured = {"openvino_is_used": used, "time_ratio": 0.5, "one_minus_cosine": 0.0}
    choice._remember(read_card(card_of), {"image": measured, "text": measured})


@needs_openvino
def test_openvino_gives_the_same_embeddings(
    name: str, monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]
) -> None:
    plain = Encoder.load(name)
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "openvino")
    fast = Encoder.load(name)
    assert set(fast._engines) == {"image", "text"} and not plain._engines
    assert fast.model_id == plain.model_id
    for got, wanted in (
        (fast.encode_images(pictures), plain.encode_images(pictures)),
        (fast.encode_texts(TEXTS), plain.encode_texts(TEXTS)),
    ):
        assert got.dtype == np.float32 and np.abs(got - wanted).max() < 2e-6
    assert fast.encode_texts([]).shape == plain.encode_texts([]).shape


@needs_openvino
def test_patches_still_explain_the_embedding(
    name: str, monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]
) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "openvino")
    encoder = Encoder.load(name)
    mean = encoder.encode_patches(pictures).mean(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.abs(mean - encoder.encode_images(pictures)).max() < 2e-6


@needs_openvino
def test_it_is_measured_once(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "auto")
    card = read_card(name)
    assert choice.describe_engine(card) == "torch or openvino, measured at the first use"
    with caplog.at_level(logging.INFO):
        Encoder.load(name)
    assert caplog.text.count("of torch's time") == 2
    (kept,) = (home / "engines").glob("*.json")
    assert set(json.loads(kept.read_text())) == {"image", "text"}
    assert "of torch's time" in choice.describe_engine(card)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        Encoder.load(name)
    assert "of torch's time" not in caplog.text


@needs_openvino
@pytest.mark.parametrize("used", [True, False])
def test_what_was_measured_decides(name: str, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "auto")
    remember(name, used)
    assert set(Encoder.load(name)._engines) == ({"image", "text"} if used else set())


@needs_openvino
def test_different_results_are_refused() -> None:
    a = np.eye(2, dtype=np.float32)
    measured = choice._race(lambda _: a, lambda _: a + np.float32(0.1), a)
    assert not measured["openvino_is_used"]
    measured = choice._race(lambda _: a, lambda _: a * np.float32(np.nan), a)
    assert not measured["openvino_is_used"]


@needs_openvino
def test_compiled_towers_are_kept_and_damage_is_noticed(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "openvino")
    wanted = Encoder.load(name).encode_texts(TEXTS)
    blobs = list((home / "engines").glob("*.blob"))
    assert len(blobs) == 2
    monkeypatch.setattr(choice, "openvino_model", None)  # nothing is built again
    assert np.array_equal(Encoder.load(name).encode_texts(TEXTS), wanted)
    monkeypatch.undo()
    monkeypatch.setenv("RWKVSEARCH_HOME", str(home))
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "openvino")
    for blob in blobs:
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert np.array_equal(Encoder.load(name).encode_texts(TEXTS), wanted)
    assert caplog.text.count("made anew: it is damaged") == 2


@needs_openvino
def test_a_home_that_cannot_be_written(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "engines").write_text("in the way")
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "openvino")
    assert Encoder.load(name).encode_texts(TEXTS).shape == (3, 32)


@needs_openvino
def test_bf16_has_an_id_of_its_own(name: str) -> None:
    exact, half = Encoder.load(name), Encoder.load(name, precision="bf16-openvino")
    assert half.model_id == exact.model_id.removesuffix("fp32") + "bf16-openvino"
    cosines = (exact.encode_texts(TEXTS) * half.encode_texts(TEXTS)).sum(1)
    assert cosines.min() > 0.998


@needs_openvino
def test_bf16_is_kept_as_it_was(
    name: str, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Encoder.load(name, precision="bf16-openvino").encode_images(pictures)
    monkeypatch.setattr(choice, "openvino_model", None)  # nothing is built again
    again = Encoder.load(name, precision="bf16-openvino").encode_images(pictures)
    assert np.array_equal(first, again)


@needs_openvino
def test_its_telemetry_is_never_imported(tmp_path: Path, name: str) -> None:
    """The wheel of OpenVINO asks for a package that reports every import."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('it was imported')")
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from rwkvsearch.retrieval.encoder import Encoder\n"
        f"print(sorted(Encoder.load({name!r})._engines))"
    )
    command = [sys.executable, "-c", probe, str(tmp_path)]
    environment = {**os.environ, "RWKVSEARCH_ENGINE": "openvino"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (run.stdout.strip(), run.stderr) == ("['image', 'text']", "")


def test_without_openvino(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "auto")
    for module in ("choice.find_spec", "files.find_spec"):
        monkeypatch.setattr(f"rwkvsearch.retrieval.graphs.{module}", lambda _: None)
    assert not Encoder.load(name)._engines
    assert choice.describe_engine(read_card(name)).startswith("torch (`pip install")
    with pytest.raises(ModelError, match=r"openvino not installed: run `pip install"):
        Encoder.load(name, precision="bf16-openvino")


def test_an_unknown_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "tpu")
    with pytest.raises(ModelError, match="it can be auto, torch or openvino"):
        Encoder.load(name)


def test_engines_are_imported_late() -> None:
    probe = (
        "import sys, rwkvsearch.retrieval.encoder, rwkvsearch.ui.cli\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('openvino', 'onnx', 'onnxruntime')])"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
