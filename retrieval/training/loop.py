"""The training loop, resumable at every checkpoint, in one process or several."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.files import replacing
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.classes import Classes
from rwkvsearch.retrieval.training.config import TrainingConfig
from rwkvsearch.retrieval.training.examples import Source, fingerprint
from rwkvsearch.retrieval.training.mixture import Batch, Tokenize, make_batch, plan_batch
from rwkvsearch.retrieval.training.optimizer import Optimizer
from rwkvsearch.retrieval.training.processes import ALONE, Processes
from rwkvsearch.retrieval.training.state import (
    TrainingState,
    locked,
    restore_state,
    save_best,
    save_state,
    start_average,
    update_average,
)
from rwkvsearch.retrieval.training.step import checkpoint_blocks, gradients
from rwkvsearch.retrieval.training.targets import Targets

LOG_FILE = "log.jsonl"
Figures = dict[str, float]
Measure = Callable[[RwkvClip], Figures]
"""Figures of a model by name, such as `text_to_image R@10`; `best` maximises their mean."""


def train(
    model: RwkvClip,
    sources: Sequence[Source],
    tokenize: Tokenize,
    config: TrainingConfig,
    folder: Path,
    *,
    measure: Measure,
    targets: Targets | None = None,
    processes: Processes = ALONE,
    progress: Callable[[int, Figures], None] = lambda step, figures: None,
) -> TrainingState:
    """Train `model` in place, going on from the checkpoint of `folder` where there is one.

    Every `validation.every` steps and at the end `folder` gets a checkpoint, a JSON line of figures
    in `log.jsonl`, and the best weights so far. `progress` is told each step and its figures.

    Raises:
        DataError: the checkpoint belongs to another run, somebody else trains in `folder`, or it
            cannot be written.
        ModelError: the loss is no longer a number; the last checkpoint stays.
    """
    if config.hardware.checkpointing:
        checkpoint_blocks(model)
    average = start_average(model, config.recipe.average)
    optimizer = Optimizer(model, config.recipe)
    state = TrainingState(model, optimizer, average, fingerprint(sources))
    with locked(folder) if processes.rank == 0 else nullcontext():
        restore_state(state, config, folder)
        processes.agree(state.step, [p.data for p in model.parameters()])
        if processes.rank == 0:
            _cut_log(folder / LOG_FILE, state.step)
        window = _Window()
        for batch in _batches(sources, tokenize, config, model, targets, state.step, processes):
            figures = _step(state, batch, config, processes)
            window.add(figures, batch.images_in_all)
            progress(state.step, figures)
            if state.step % config.validation.every == 0 or state.step == config.recipe.steps:
                if processes.rank == 0:
                    measured = window.means() | measure(state.judged)
                    _keep(state, config, folder, measured)
                    progress(state.step, measured)
                processes.wait()
                window = _Window()
    return state


def _step(
    state: TrainingState, batch: Batch, config: TrainingConfig, processes: Processes
) -> Figures:
    recipe, model = config.recipe, state.model.train()
    contrast = state.step >= config.objective.contrast_from * recipe.steps
    figures = gradients(
        model, batch, config.objective, config.hardware, contrast=contrast, processes=processes
    )
    figures["norm"] = state.optimizer.clip_gradients()
    if not math.isfinite(figures["loss"] + figures["norm"]):
        raise ModelError(
            f"step {state.step + 1} has a loss of {figures['loss']} and gradients of length "
            f"{figures['norm']}: begin a new run with a lower peak_rate, with --start this folder"
        )
    state.optimizer.step(recipe.rate(state.step))
    state.step += 1
    if state.average is not None:
        update_average(state.average, model, recipe.average, state.step)
    return figures


def _batches(
    sources: Sequence[Source],
    tokenize: Tokenize,
    config: TrainingConfig,
    model: RwkvClip,
    targets: Targets | None,
    start: int,
    processes: Processes,
) -> Iterator[Batch]:
    """Yield the batches from `start` on; the next one is made while this one is used."""
    recipe, image = config.recipe, model.config.image
    sentences = targets.texts if targets else ()
    classes = Classes.read(sources, targets) if targets and config.objective.classes else None

    def draw(step: int) -> Batch:
        plan = plan_batch(
            sources,
            seed=recipe.seed,
            step=step,
            sentences=sentences,
            extra=config.objective.sentences,
        )
        return make_batch(
            plan,
            tokenize,
            size=recipe.image_size(step, image.image_size),
            patch=image.patch_size,
            seed=recipe.seed,
            least_area=recipe.least_area,
            targets=targets,
            classes=classes,
            part=processes.rank,
            parts=processes.count,
        )

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(draw, start)
        for step in range(start, recipe.steps):
            batch = pending.result()
            if step + 1 < recipe.steps:
                pending = pool.submit(draw, step + 1)
            yield batch


class _Window:
    """Figures of the steps since the last measurement."""

    def __init__(self) -> None:
        self._sums: Figures = {}
        self._steps, self._pairs, self._began = 0, 0, time.monotonic()

    def add(self, figures: Figures, pairs: int) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps, self._pairs = self._steps + 1, self._pairs + pairs

    def means(self) -> Figures:
        """Return the means and the pairs a second."""
        figures = {name: value / self._steps for name, value in self._sums.items()}
        figures["pairs_per_second"] = self._pairs / (time.monotonic() - self._began)
        return figures


def _keep(state: TrainingState, config: TrainingConfig, folder: Path, figures: Figures) -> None:
    merit = _merit(state.step, config, figures)
    if merit > state.best:
        state.best = merit
        save_best(state, figures, folder)
    _log(folder / LOG_FILE, {"step": state.step} | figures)
    save_state(state, config, folder)


def _merit(step: int, config: TrainingConfig, figures: Figures) -> float:
    """Return the mean recall; without any, the loss with its sign turned, once it is the last one.

    Losses before contrast begins, or of small pictures, are lower for what they leave out.
    """
    recalls = [value for name, value in figures.items() if "@" in name]
    if recalls:
        return sum(recalls) / len(recalls)
    early = max(config.objective.contrast_from, config.recipe.small_part) * config.recipe.steps
    return step - config.recipe.steps - 1e9 if step <= early else -figures["loss"]


def read_log(path: Path) -> list[Figures]:
    """Return the lines of a log, up to the first one that is torn."""
    lines: list[Figures] = []
    with suppress(FileNotFoundError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(line))
    return lines


def _log(path: Path, figures: Figures) -> None:
    rounded = {name: round(value, 4) for name, value in figures.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines after `step`: of a run that was stopped between its log and its checkpoint."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    with replacing(path) as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in kept)
