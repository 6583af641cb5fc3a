"""Turn a checkpoint into a model folder: `python -m rwkvsearch.retrieval.training.export`."""

import argparse
from pathlib import Path

import torch

from rwkvsearch.retrieval.models import (
    DEFAULT_MODEL,
    WEIGHTS_FILE,
    ModelCard,
    sha256_of,
    write_card,
)
from rwkvsearch.retrieval.rwkv_clip.checkpoint import save_half
from rwkvsearch.retrieval.rwkv_clip.config import STARTER
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip


def main() -> None:
    """Read the options and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder with checkpoint.pt")
    parser.add_argument("--to", type=Path, required=True, help="model folder to write")
    options = parser.parse_args()
    model = RwkvClip(STARTER)
    state = torch.load(options.run / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    export(model, options.to)


def export(model: RwkvClip, folder: Path) -> None:
    """Write the weights as float16 and the card that says how to use them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(model, folder / WEIGHTS_FILE, {})
    card = ModelCard(
        name=DEFAULT_MODEL,
        sha256=sha256_of(folder / WEIGHTS_FILE),
        prompt="",
        config=model.config.to_dict(),
        source="trained by rwkvsearch.retrieval.training, see its README.md",
        licence="research and education only: the training photographs are; the code is MIT",
    )
    write_card(card, folder)


if __name__ == "__main__":
    main()
