"""Train the starter model: `python -m rwkvsearch.retrieval.training.starter --help`."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rwkvsearch.data.captions import CaptionSet, load_captions
from rwkvsearch.data.images import read_image
from rwkvsearch.data.preprocess import preprocess
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.metrics import recall_at_k
from rwkvsearch.retrieval.rwkv_clip.config import STARTER
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.loop import Recipe, train
from rwkvsearch.retrieval.training.mixture import Source, captioned, labelled


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flickr8k", type=Path, required=True, help="folder of the Karpathy json")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the labelled shards")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    options = parser.parse_args()
    tokenizer = Tokenizer(STARTER.text.vocabulary, STARTER.text.context)
    sources = [
        Source(captioned(options.flickr8k, "train"), 128),
        Source(labelled(sorted(options.photos.glob("tiny-imagenet-train-*.tar"))), 84),
        Source(labelled(sorted(options.photos.glob("caltech101-train-*.tar"))), 32),
        Source(labelled(sorted(options.photos.glob("imagenet1k-*.tar"))), 12),
    ]
    train(
        RwkvClip(STARTER),
        sources,
        tokenizer,
        Recipe(steps=options.steps),
        options.run,
        evaluate=recall_of(load_captions(options.flickr8k, "val"), tokenizer),
        every=options.every,
    )


def recall_of(captions: CaptionSet, tokenizer: Tokenizer) -> Callable[[RwkvClip], dict[str, float]]:
    """Return a function that measures recall on the first caption of every image of `captions`."""
    pixels = torch.from_numpy(
        np.stack(
            [preprocess(read_image(i.path), STARTER.image.image_size) for i in captions.images]
        )
    )
    ids = torch.from_numpy(tokenizer([image.captions[0] for image in captions.images]))

    def evaluate(model: RwkvClip) -> dict[str, float]:
        model.eval()
        images, texts = _encode(model.image, pixels), _encode(model.text, ids)
        recall = recall_at_k(images, texts, np.arange(len(images)))
        by_text = {f"text_to_image {k}": v for k, v in recall.text_to_image.items()}
        return by_text | {f"image_to_text {k}": v for k, v in recall.image_to_text.items()}

    return evaluate


@torch.inference_mode()
def _encode(tower: torch.nn.Module, inputs: Tensor) -> np.ndarray:
    parts = [tower(part) for part in torch.split(inputs, 50)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()


if __name__ == "__main__":
    main()
