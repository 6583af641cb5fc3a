"""A run resumes bit for bit, keeps its best, learns, and refuses what is not its own."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import (
    DataConfig,
    Hardware,
    Objective,
    Recipe,
    TrainingConfig,
    Validation,
)
from rwkvsearch.retrieval.training.examples import Source
from rwkvsearch.retrieval.training.initialise import initialise
from rwkvsearch.retrieval.training.loop import Figures, train
from rwkvsearch.retrieval.training.state import locked, read_checkpoint
from rwkvsearch.retrieval.training.targets import Targets

CONFIG = TrainingConfig(
    data=(DataConfig("x", 7),),
    recipe=Recipe(
        steps=4, peak_rate=1e-2, warm_up=2, small_size=16, small_part=0.5, average=0.9, muon=0.5
    ),
    objective=Objective(
        targets="t", contrast_from=0.3, image=1, patch=1, text=1, relation=1, sentences=2
    ),
    hardware=Hardware(part=3),
    validation=Validation(every=2),
)
Run = Callable[..., tuple[dict[str, Tensor], list[Figures]]]


@pytest.fixture
def run(
    sources: list[Source], tokenize: Tokenizer, tiny_config: ModelConfig, targets: Targets
) -> Run:
    """Train a fresh tiny model in a folder; return the weights it is judged by, and the log."""

    def run(
        folder: Path,
        config: TrainingConfig = CONFIG,
        stop_after: int | None = None,
        measure: Callable[[RwkvClip], Figures] = lambda model: {},
    ) -> tuple[dict[str, Tensor], list[Figures]]:
        def progress(step: int, figures: Figures) -> None:
            if step == stop_after:
                raise KeyboardInterrupt

        model = RwkvClip(tiny_config)
        initialise(model, config.recipe.seed)
        given = targets if config.objective.targets else None
        state = train(
            model, sources, tokenize, config, folder, measure=measure, targets=given,
            progress=progress,
        )  # fmt: skip
        lines = (folder / "log.jsonl").read_text().splitlines()
        return dict(state.judged.state_dict()), [json.loads(line) for line in lines]

    return run


class TestResume:
    @pytest.mark.parametrize("stop_after", [2, 3])
    def test_a_stopped_run_goes_on_bit_for_bit(
        self, run: Run, tmp_path: Path, stop_after: int
    ) -> None:
        straight, log = run(tmp_path / "straight")
        assert [line["step"] for line in log] == [2, 4]
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", stop_after=stop_after)
        resumed, resumed_log = run(tmp_path / "stopped")
        assert all(torch.equal(resumed[key], x) for key, x in straight.items())
        figures = [[line["step"], line["loss"], line["patch"]] for line in log]
        assert [[x["step"], x["loss"], x["patch"]] for x in resumed_log] == figures

    def test_a_stop_between_log_and_checkpoint(self, run: Run, tmp_path: Path) -> None:
        _, log = run(tmp_path)
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"step": 6, "loss": 1}\n')
        assert run(tmp_path)[1] == log

    def test_a_finished_run_is_left_alone(self, run: Run, tmp_path: Path) -> None:
        first, log = run(tmp_path)
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names == ["best.pt", "checkpoint.pt", "log.jsonl", "run.lock"]
        again, same_log = run(tmp_path)
        assert same_log == log and all(torch.equal(again[key], x) for key, x in first.items())

    def test_other_settings_are_refused(self, run: Run, tmp_path: Path) -> None:
        run(tmp_path)
        other = replace(CONFIG, recipe=replace(CONFIG.recipe, steps=6, peak_rate=0.1))
        with pytest.raises(DataError) as caught:
            run(tmp_path, other)
        assert "recipe.peak_rate 0.01 there, 0.1 here; recipe.steps 4 there, 6 here" in str(
            caught.value
        )
        faster = replace(CONFIG, hardware=Hardware(part=2), validation=Validation(every=1))
        run(tmp_path, faster)  # how it is computed and measured may change

    def test_a_damaged_checkpoint(self, run: Run, tmp_path: Path) -> None:
        run(tmp_path)
        (tmp_path / "checkpoint.pt").write_bytes(b"no")
        with pytest.raises(DataError, match=r"checkpoint\.pt: not a checkpoint of a training run"):
            run(tmp_path)


def test_the_best_weights_are_kept(run: Run, tmp_path: Path) -> None:
    figures = iter([{"a R@10": 5.0, "b R@10": 7.0}, {"a R@10": 6.0, "b R@10": 5.0}])
    last, _ = run(tmp_path, measure=lambda model: next(figures))
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["step"] == 2 and best["figures"]["b R@10"] == 7
    assert any(not torch.equal(best["model"][key], x) for key, x in last.items())


def test_without_a_measure_the_loss_decides(run: Run, tmp_path: Path) -> None:
    recipe = replace(CONFIG.recipe, small_part=0.0)
    objective = replace(CONFIG.objective, contrast_from=0.0)
    _, log = run(tmp_path, replace(CONFIG, recipe=recipe, objective=objective))
    losses = {line["step"]: line["loss"] for line in log}
    best = read_checkpoint(tmp_path / "best.pt")
    assert losses[best["step"]] == min(losses.values())


@pytest.mark.parametrize("muon", [0.0, 0.5])
def test_every_weight_moves(
    run: Run, tmp_path: Path, tiny_config: ModelConfig, muon: float
) -> None:
    config = replace(CONFIG, recipe=replace(CONFIG.recipe, muon=muon))
    trained, _ = run(tmp_path, config)
    start = RwkvClip(tiny_config)
    initialise(start, config.recipe.seed)
    assert [k for k, x in start.state_dict().items() if torch.equal(x, trained[k])] == []


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_a_frozen_tower_stays(
    run: Run, tmp_path: Path, tiny_config: ModelConfig, frozen: str
) -> None:
    trained, _ = run(tmp_path, replace(CONFIG, recipe=replace(CONFIG.recipe, freeze=frozen)))
    start = RwkvClip(tiny_config)
    initialise(start, CONFIG.recipe.seed)
    still = {k for k, x in start.state_dict().items() if torch.equal(x, trained[k])}
    assert still == {k for k in trained if k.startswith(f"{frozen}.")}


@pytest.mark.parametrize("taught", [False, True])
def test_loss_falls(run: Run, tmp_path: Path, taught: bool) -> None:
    recipe = Recipe(steps=32, peak_rate=5e-3, warm_up=5, small_size=16, small_part=0.8)
    objective = CONFIG.objective if taught else Objective()
    objective = replace(objective, contrast_from=0.0)
    config = replace(CONFIG, recipe=recipe, objective=objective, validation=Validation(every=8))
    _, log = run(tmp_path, config)
    losses = [line["loss"] for line in log]
    assert losses[-1] < 0.8 * losses[0] and all(math.isfinite(x) for x in losses)


def test_contrast_starts_when_it_is_told_to(run: Run, tmp_path: Path) -> None:
    objective = replace(CONFIG.objective, contrast_from=0.5)
    config = replace(CONFIG, objective=objective, validation=Validation(every=1))
    _, log = run(tmp_path, config)
    assert ["contrast" in line for line in log] == [False, False, True, True]


def test_a_loss_that_is_no_number_stops_the_run(run: Run, tmp_path: Path) -> None:
    config = replace(CONFIG, recipe=replace(CONFIG.recipe, peak_rate=1e38, clip=1e38, muon=0.0))
    with pytest.raises(ModelError, match=r"step \d has a loss of .*nan.*: begin a new run"):
        run(tmp_path, config)


def test_gradients_that_are_no_numbers_do_not_reach_the_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss with an infinite gradient, at the step of a checkpoint."""
    from rwkvsearch.retrieval.training import loop

    real, calls = loop.gradients, 0

    def broken(model: RwkvClip, *arguments: Any, **options: Any) -> Figures:
        nonlocal calls
        figures = real(model, *arguments, **options)
        calls += 1
        if calls == 4 and model.logit_scale.grad is not None:
            model.logit_scale.grad.fill_(math.inf)
        return figures

    monkeypatch.setattr(loop, "gradients", broken)
    with pytest.raises(ModelError, match="gradients of length inf"):
        run(tmp_path)
    kept = read_checkpoint(tmp_path / "checkpoint.pt")
    assert kept["step"] == 2 and all(x.isfinite().all() for x in kept["model"].values())


def test_a_torn_log_does_not_stop_a_run(run: Run, tmp_path: Path) -> None:
    _, log = run(tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert run(tmp_path)[1] == log


def test_other_pictures_are_refused(run: Run, sources: list[Source], tmp_path: Path) -> None:
    run(tmp_path)
    example = sources[0].examples[0]
    changed = replace(example, texts={"raw": ("another text",)})
    before = sources[0]
    sources[0] = Source([changed, *before.examples[1:]], before.share)
    try:
        with pytest.raises(DataError, match="other pictures or texts"):
            run(tmp_path, replace(CONFIG, objective=CONFIG.objective))
    finally:
        sources[0] = before


def test_one_run_a_folder(run: Run, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DataError, match="another rwkvsearch is training there"):
        run(tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(run: Run, tmp_path: Path) -> None:
    run(tmp_path)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    script = """
import resource, sys
from pathlib import Path
from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.training.state import _write
import signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    _write({"x": torch.zeros(100_000)}, Path(sys.argv[1]))
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "checkpoint.pt")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "checkpoint.pt: cannot be written" in done.stdout, done.stderr
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not (tmp_path / "checkpoint.tmp").exists()


def test_the_best_is_never_from_before_contrast(run: Run, tmp_path: Path) -> None:
    objective = replace(CONFIG.objective, contrast_from=0.5)
    run(tmp_path, replace(CONFIG, objective=objective, validation=Validation(every=1)))
    assert read_checkpoint(tmp_path / "best.pt")["step"] > 2
