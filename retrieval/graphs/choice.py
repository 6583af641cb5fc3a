"""Which engine a tower runs on: OpenVINO where it is installed, equal and faster, else torch.

Measured once for a model on a machine and remembered beside the compiled towers.
`$RWKVSEARCH_ENGINE` set to `torch` or `openvino` leaves no choice.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.graphs.files import TOWERS, Tower, input_shape, need, openvino_model
from rwkvsearch.retrieval.models import EXACT, OPENVINO, ModelCard, Precision
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

if TYPE_CHECKING:
    from rwkvsearch.retrieval.graphs.openvino_tower import OpenvinoTower
    from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

logger = logging.getLogger(__name__)

MARGIN = 1.05
"""OpenVINO is taken when it is so many times faster."""
TOLERANCE = 1e-5
"""Largest `1 - cosine` of an embedding to that of torch; measured are 1e-7."""
ROUNDS = 5
BATCH: dict[Tower, int] = {"image": 8, "text": 4}
Run = Callable[[NDArray[np.generic]], NDArray[np.float32]]
Engines = dict[Tower, "OpenvinoTower"]


def asked_engine() -> str:
    """Return `$RWKVSEARCH_ENGINE`: `auto` (also when it is not set), `torch` or `openvino`."""
    name = os.environ.get("RWKVSEARCH_ENGINE") or "auto"
    if name not in ("auto", "torch", "openvino"):
        raise ModelError(f"RWKVSEARCH_ENGINE={name}: it can be auto, torch or openvino")
    return name


def compiled_towers(model: RwkvClip, card: ModelCard, precision: Precision) -> Engines:
    """Return the towers that OpenVINO shall run, or whose speed is to be measured first.

    `model` is not packed yet.

    Raises:
        ModelError: OpenVINO is asked for and is not installed.
    """
    asked = asked_engine()
    if precision == OPENVINO or (precision == EXACT and asked == "openvino"):
        need("openvino")
    elif precision != EXACT or asked == "torch" or find_spec("openvino") is None:
        return {}
    from rwkvsearch.retrieval.graphs.half import only_products_in_half
    from rwkvsearch.retrieval.graphs.openvino_tower import compile_tower

    half = precision == OPENVINO
    fixed = half or asked == "openvino"
    chosen = None if fixed else remembered(card)
    wanted = TOWERS if chosen is None else [t for t in TOWERS if chosen[t]["openvino_is_used"]]

    def compiled(tower: Tower) -> OpenvinoTower:
        def graph() -> object:
            whole = openvino_model(model, tower, input_shape(model.config, tower))
            # That is faster for pictures, and slower for texts.
            return only_products_in_half(whole) if half and tower == "image" else whole

        return compile_tower(graph, f"{card.id_of(precision)}-{tower}", half)

    return {tower: compiled(tower) for tower in wanted}


def faster(engines: Engines, torch_runs: Mapping[Tower, Run], card: ModelCard) -> Engines:
    """Return those of `engines` that are faster than torch; measured where it is not known."""
    if not engines or asked_engine() == "openvino" or remembered(card) is not None:
        return engines
    config = ModelConfig.from_dict(card.config)
    found = {}
    for tower in TOWERS:
        inputs = _inputs(config, tower)
        found[tower] = _race(torch_runs[tower], engines[tower], inputs)
        logger.info("%s %s: %s", card.name, tower, _sentence(found[tower]))
    _remember(card, found)
    return {t: engine for t, engine in engines.items() if found[t]["openvino_is_used"]}


def remembered(card: ModelCard) -> dict[str, dict[str, float | bool]] | None:
    """Return what was measured of a model on this machine, by tower; None if nothing was."""
    try:
        measured = json.loads(_file(card).read_text("utf-8"))
        return measured if all("openvino_is_used" in measured[t] for t in TOWERS) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe_engine(card: ModelCard) -> str:
    """Return a line on the engine of a model for people."""
    asked = asked_engine()
    if asked != "auto":
        return f"{asked} (RWKVSEARCH_ENGINE)"
    if find_spec("openvino") is None:
        return "torch (`pip install 'rwkvsearch[openvino]'` may be faster)"
    measured = remembered(card)
    if measured is None:
        return "torch or openvino, measured at the first use"
    return "; ".join(f"{tower}: {_sentence(measured[tower])}" for tower in TOWERS)


def _sentence(measured: Mapping[str, float | bool]) -> str:
    name = "openvino" if measured["openvino_is_used"] else "torch"
    return f"{name} (openvino takes {measured['time_ratio']:.2f} of torch's time)"


def _race(torch_run: Run, engine: Run, inputs: NDArray[np.generic]) -> dict[str, float | bool]:
    """Compare results, then times, taking turns."""
    apart = _apart(torch_run(inputs), engine(inputs))
    ratios = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        torch_run(inputs)
        between = time.perf_counter()
        engine(inputs)
        ratios.append((time.perf_counter() - between) / (between - began))
    ratio = statistics.median(ratios)
    used = apart <= TOLERANCE and ratio * MARGIN < 1
    return {"openvino_is_used": used, "time_ratio": ratio, "one_minus_cosine": apart}


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the largest `1 - cosine` of rows; infinite where a number is none."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    apart = float(np.max(1 - (left * right).sum(1) / norms))
    return apart if np.isfinite(apart) else np.inf


def _inputs(config: ModelConfig, tower: Tower) -> NDArray[np.generic]:
    random, shape = np.random.default_rng(0), input_shape(config, tower, BATCH[tower])
    if tower == "image":
        return random.standard_normal(shape, np.float32)
    return random.integers(0, config.text.vocabulary, shape)


def _remember(card: ModelCard, found: Mapping[Tower, object]) -> None:
    path = _file(card)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.tmp")
        new.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        new.replace(path)
    except OSError as error:
        logger.info("%s cannot be written, so it will be measured again: %s", path, error.strerror)


def _file(card: ModelCard) -> Path:
    from rwkvsearch.retrieval.graphs.openvino_tower import engines_folder, machine_key

    return engines_folder() / f"{card.id_of(EXACT)}-{machine_key()}.json"
