"""Recall during training, on pictures that are not trained on."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.images import read_image
from rwkvsearch.data.preprocess import preprocess
from rwkvsearch.retrieval.metrics import recall_at_k
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.loop import Figures, Measure
from rwkvsearch.retrieval.training.mixture import Tokenize

AT_ONCE = 50


def recall_of(path: Path, split: str, tokenize: Tokenize, image_size: int) -> Measure:
    """Return a function that measures recall@10, in percent, with every caption of the split."""
    images = load_captions(path, split).images
    pixels = np.stack([preprocess(read_image(image.source()), image_size) for image in images])
    ids = tokenize([caption for image in images for caption in image.captions])
    owner = np.repeat(np.arange(len(images)), [len(image.captions) for image in images])

    def measure(model: RwkvClip) -> Figures:
        model.eval()
        embeddings = _encode(model.image, pixels), _encode(model.text, ids)
        recall = recall_at_k(*embeddings, owner, ks=(10,))
        return {
            "text_to_image R@10": recall.text_to_image["R@10"],
            "image_to_text R@10": recall.image_to_text["R@10"],
        }

    return measure


@torch.inference_mode()
def _encode(tower: nn.Module, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    device = next(tower.parameters()).device
    parts = torch.split(torch.from_numpy(inputs), AT_ONCE)
    features = torch.cat([tower(part.to(device)).cpu() for part in parts])
    embeddings: Tensor = nn.functional.normalize(features, dim=-1)
    return embeddings.numpy()
