"""`rwkvsearch train` as a person runs it: train, stop, go on, install, search; two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rwkvsearch.retrieval.models import read_card, write_card

from .conftest import Run, make_picture

CONFIG = """
start = "base"

[[data]]
path = "pictures"
share = 4

[recipe]
steps = {steps}
peak_rate = 1e-2
warm_up = 1
layer_decay = 0.9
average = 0.5

[hardware]
precision = "fp32"
part = 2

[validation]
every = {every}
"""
MAIN = "from rwkvsearch.ui.cli import main; main()"
Train = Callable[..., Path]


@pytest.fixture
def base(home: Path, weights: Path) -> str:
    """A model to fine-tune, in the home of the test."""
    folder = home / "models" / "base"
    folder.mkdir(parents=True)
    content = (weights / "starter" / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content)
    write_card(replace(read_card("starter"), name="base"), folder)
    return "base"


@pytest.fixture
def config(base: str, tmp_path: Path) -> Train:
    """Write a configuration beside six pictures with captions."""
    for n in range(6):
        make_picture(tmp_path / "set" / "pictures" / f"{n}.png", n)
        (tmp_path / "set" / "pictures" / f"{n}.txt").write_text(f"picture {n}\nthe {n}th\n")

    def write(steps: int = 4, every: int = 2) -> Path:
        file = tmp_path / "set" / "run.toml"
        file.write_text(CONFIG.format(steps=steps, every=every))
        return file

    return write


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    kept: dict[str, torch.Tensor] = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    return kept


def test_train_install_and_search(config: Train, run: Run, tmp_path: Path) -> None:
    outcome = run("train", config(), "--to", tmp_path / "out", "--name", "mine")
    assert outcome.code == 0, outcome.err
    assert f"installed {tmp_path / 'home' / 'models' / 'mine'}" in outcome.out
    assert "pictures: 6 pictures, 4 in every batch" in outcome.err
    lines = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    listed = run("model", "list").out
    assert "mine           installed      trained here" in listed
    pictures = tmp_path / "set" / "pictures"
    assert run("index", pictures, "--model", "mine").code == 0
    found = run("query", "picture 3")  # the library's own model is chosen
    assert found.code == 0 and len(found.out.splitlines()) >= 6


def test_it_goes_on_where_it_stopped(config: Train, run: Run, tmp_path: Path) -> None:
    """SIGINT in the middle; the same command leads to the weights of an unbroken run."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run("train", config(40, 5), "--to", straight).code == 0
    command = [sys.executable, "-c", MAIN, "train", config(40, 5), "--to", stopped]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (stopped / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 130, err
    assert err.endswith("stopped; the same command goes on from the last checkpoint, if any\n")
    assert torch.load(stopped / "checkpoint.pt", weights_only=True)["step"] < 40
    assert run("train", config(40, 5), "--to", stopped).code == 0
    wanted = weights_of(straight)
    assert all(torch.equal(x, wanted[key]) for key, x in weights_of(stopped).items())


def test_two_processes_by_torchrun(config: Train, run: Run, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    file = config(2)
    assert run("train", file, "--to", alone).code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    (tmp_path / "main.py").write_text(MAIN)
    ours = [tmp_path / "main.py", "train", file, "--to", both]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", *ours],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    start = torch.load(alone / "best.pt", weights_only=True)["model"]
    one, two = weights_of(alone), weights_of(both)
    assert start.keys() == one.keys()
    for key, x in one.items():  # two steps of 1e-2: what differs is rounding
        torch.testing.assert_close(two[key], x, atol=2e-3, rtol=0, msg=key)
    losses = [json.loads((folder / "log.jsonl").read_text())["loss"] for folder in (alone, both)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--preset", "b64"], "no preset is called 'b64'"),
        (["--preset", "starter", "--data", "nowhere"], "no targets here"),
        (["--preset", "finetune", "--name", "starter"], "choose another name"),
        (["--preset", "finetune"], "run `rwkvsearch model pull b32-yfcc15m`"),
        (["no.toml"], "no.toml: cannot be read"),
    ],
)
def test_mistakes_are_one_line(arguments: list[Any], reason: str, run: Run) -> None:
    outcome = run("train", *arguments)
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1 and last.startswith("rwkvsearch: ") and reason in last, outcome.err


def test_a_run_needs_a_config_or_a_preset(run: Run, config: Train) -> None:
    for arguments in ([], [config(), "--preset", "starter"]):
        outcome = run("train", *arguments)
        assert outcome.code == 2 and "name a TOML file or a --preset" in outcome.err
