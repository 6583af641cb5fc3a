"""A training run from its configuration: read everything, train, keep the weights as a model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.encoder import device_name, load_model
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, STARTER, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.config import TrainingConfig
from rwkvsearch.retrieval.training.examples import Source, read_source
from rwkvsearch.retrieval.training.export import read_run
from rwkvsearch.retrieval.training.initialise import initialise, whiten_patches
from rwkvsearch.retrieval.training.loop import Figures, Measure, train
from rwkvsearch.retrieval.training.measure import recall_of
from rwkvsearch.retrieval.training.mixture import augment, plan_batch
from rwkvsearch.retrieval.training.processes import join_processes, leave_processes, own_device
from rwkvsearch.retrieval.training.targets import Targets

PICTURES_TO_WHITEN = 2048
SHAPES = {"starter": STARTER, "b32": B32, "b16": B16}


def _silent(_line: str) -> None:
    pass


def _unseen(_step: int, _figures: Figures) -> None:
    pass


def run(
    config: TrainingConfig,
    home: Path,
    folder: Path,
    *,
    device: str | None = None,
    told: Callable[[str], None] = _silent,
    progress: Callable[[int, Figures], None] = _unseen,
) -> bool:
    """Train as `config` says and leave the result in `folder`; paths are relative to `home`.

    `told` gets a line about each thing that is read. In a process started by `torchrun` this is
    one of several that train together; returns whether it is the first, which alone reports.

    Raises:
        DataError: data, targets or checkpoint are missing or do not fit.
        ModelError: a model to go on from is missing, or the training diverged.
    """
    place = own_device(device_name(device))
    processes = join_processes(place)
    try:
        first = processes.rank == 0
        if not first:
            told, progress = _silent, _unseen
        model = start_model(config, home)
        told(f"model: {sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters")
        tokenize = Tokenizer(model.config.text.vocabulary, model.config.text.context)
        targets = Targets(home / config.objective.targets) if config.objective.targets else None
        sources = _read(config, home, told)
        if targets is not None:
            _check_targets(targets, sources, model.config)
        if config.recipe.whiten and not config.start:
            whiten_patches(model, _some_pixels(sources, config, model.config), config.recipe.seed)
        train(
            model.to(place),
            sources,
            tokenize,
            config,
            folder,
            measure=_measure(config, home, tokenize, model.config) if first else _nothing,
            targets=targets,
            processes=processes,
            progress=progress,
        )
        return first
    finally:
        leave_processes(processes)


def _nothing(_model: RwkvClip) -> Figures:
    return {}


def _read(config: TrainingConfig, home: Path, told: Callable[[str], None]) -> list[Source]:
    sources = []
    for entry in config.data:
        sources.append(read_source(entry, home, keep_pixels=config.hardware.keep_pixels))
        count, share = len(sources[-1].examples), sources[-1].share
        told(f"{entry.path}: {count:,} pictures, {share} in every batch")
    return sources


def _measure(
    config: TrainingConfig, home: Path, tokenize: Tokenizer, shape: ModelConfig
) -> Measure:
    validation = config.validation
    if not validation.path:
        return _nothing
    path = home / validation.path
    return recall_of(path, validation.split, tokenize, shape.image.image_size)


def start_model(config: TrainingConfig, home: Path) -> RwkvClip:
    """Return a model with the starting weights: drawn from the seed, or those of `start`."""
    if config.start:
        run_folder = home / config.start
        model = read_run(run_folder) if run_folder.is_dir() else load_model(config.start)[0]
        return model.float().requires_grad_(True)
    if config.model not in SHAPES:
        raise DataError(f"no shape is called {config.model!r}; there are {', '.join(SHAPES)}")
    model = RwkvClip(SHAPES[config.model])
    initialise(model, config.recipe.seed)
    return model


def _some_pixels(sources: list[Source], config: TrainingConfig, shape: ModelConfig) -> torch.Tensor:
    """Return `[B, 3, S, S]` of the first batches."""
    batch = sum(entry.share for entry in config.data)
    size, seed = shape.image.image_size, config.recipe.seed
    plans = (
        plan_batch(sources, seed=seed, step=step) for step in range(-(-PICTURES_TO_WHITEN // batch))
    )
    views = [
        augment(e.picture.open(), size, np.random.default_rng((seed, plan.step, n)))
        for plan in plans
        for n, e in enumerate(plan.examples)
    ]
    return torch.from_numpy(np.stack([view.pixels for view in views[:PICTURES_TO_WHITEN]]))


def _check_targets(targets: Targets, sources: list[Source], config: ModelConfig) -> None:
    if targets.dim != config.dim:
        raise DataError(f"{targets.folder}: targets of {targets.dim} numbers, not {config.dim}")
    examples = [example for source in sources for example in source.examples]
    missing = sum(not targets.has(key=example.key) for example in examples)
    texts = {t for e in examples for kind in e.texts.values() for t in kind}
    unknown = sum(not targets.has(text=text) for text in texts)
    if missing or unknown:
        raise DataError(
            f"{targets.folder}: no target for {missing} pictures and {unknown} texts: make the "
            "targets anew with this data, `python -m rwkvsearch.retrieval.training.teachers`"
        )
