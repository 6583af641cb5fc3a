"""Turn a run into a model: its best weights in half precision, and the card that goes with them."""

import argparse
import os
from pathlib import Path

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.retrieval.models import (
    DEFAULT_MODEL,
    WEIGHTS_FILE,
    ModelCard,
    ModelSpec,
    folder_of,
    is_present,
    new_spec,
    read_card,
    sha256_of,
    write_card,
)
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, save_half
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.state import BEST_FILE, CHECKPOINT_FILE, read_checkpoint


def main() -> None:
    """Read the options and export the starter model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--to", type=Path, required=True, help="model folder to write")
    parser.add_argument("--last", action="store_true", help="the last weights, not the best")
    options = parser.parse_args()
    licence = "research and education only: the training photographs are; the code is MIT"
    source = "trained by rwkvsearch.retrieval.training, see its README.md"
    export(read_run(options.run, last=options.last), options.to, DEFAULT_MODEL, source, licence)


def install_run(run: Path, name: str) -> Path:
    """Install the best weights of a run as the model `name`; return its folder."""
    folder = folder_of(check_name(run, name))
    licence = "that of the data it was trained on, which the one who trained it knows"
    export(read_run(run), folder, name, _source(run), licence)
    return folder


def check_name(run: Path, name: str) -> ModelSpec:
    """Return the model that `run` may install as `name`.

    Raises:
        ModelError: no such name can be, or it is taken by another model.
    """
    spec = new_spec(name)
    if is_present(spec) and read_card(name).source != _source(run):
        raise ModelError(f"a model is called {name} already, in {folder_of(spec)}: choose another")
    return spec


def _source(run: Path) -> str:
    return f"trained here, run {run.absolute()}"


def read_run(run: Path, *, last: bool = False) -> RwkvClip:
    """Return the best weights of a run, or its last ones (their average, where it keeps one).

    Raises:
        DataError: there is no checkpoint yet, or it is damaged.
    """
    best, checkpoint = run / BEST_FILE, run / CHECKPOINT_FILE
    path = best if best.exists() and not last else checkpoint
    if not path.exists():
        raise DataError(f"{run}: no checkpoint of a training run")
    kept = read_checkpoint(path)
    weights = kept["model"] if path == best else kept["average"] or kept["model"]
    return build(ModelConfig.from_dict(kept["shape"]), weights, str(path))


def export(model: RwkvClip, folder: Path, name: str, source: str, licence: str) -> None:
    """Write weights and card; the card last, so that no folder without it passes for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{WEIGHTS_FILE}.part"
    save_half(model, temporary, {})
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # safetensors lets only its owner read
    temporary.replace(folder / WEIGHTS_FILE)
    card = ModelCard(
        name=name,
        sha256=sha256_of(folder / WEIGHTS_FILE),
        prompt="",
        config=model.config.to_dict(),
        source=source,
        licence=licence,
    )
    write_card(card, folder)


if __name__ == "__main__":
    main()
