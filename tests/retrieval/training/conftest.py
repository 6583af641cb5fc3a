"""Pictures with texts, a tiny model that moves, and what teachers would say."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.training.examples import Example, Picture, Source
from rwkvsearch.retrieval.training.initialise import initialise
from rwkvsearch.retrieval.training.targets import Targets, write_targets


@pytest.fixture(scope="session")
def tokenize(tiny_config: ModelConfig) -> Tokenizer:
    return Tokenizer(tiny_config.text.vocabulary, tiny_config.text.context)


@pytest.fixture(scope="session")
def sources(pictures: list[Image.Image]) -> list[Source]:
    """Nine captioned pictures, four in every batch, and six labelled ones, three in every batch."""
    examples = [
        Example(
            Picture(None, picture),
            {"raw": (f"picture number {n}", f"the {n} of nine")},
            f"file{n}",
            key_of(n),
        )
        for n, picture in enumerate(pictures)
    ]
    classes = [
        Example(
            Picture(None, picture),
            {"raw": ("a cat",) if n < 3 else ("a dog",)},
            "cat" if n < 3 else "dog",
            key_of(n),
            labelled=True,
        )
        for n, picture in enumerate(pictures[:6])
    ]
    return [Source(examples, 4), Source(classes, 3)]


@pytest.fixture(scope="session")
def targets(
    sources: list[Source], tiny_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> Targets:
    """Random targets for every picture and text, and for two further sentences."""
    folder = tmp_path_factory.mktemp("targets")
    random = np.random.default_rng(0)
    keys = [key_of(n) for n in range(9)]
    spoken = {t for s in sources for e in s.examples for texts in e.texts.values() for t in texts}
    texts = [*sorted(spoken), "a third sentence", "one more"]
    dim = tiny_config.dim
    images = random.standard_normal((len(keys), 7, 7, dim)).astype(np.float16)
    vectors = random.standard_normal((len(texts), dim)).astype(np.float16)
    write_targets(folder, (keys, images), (texts, vectors), ["a random one"])
    return Targets(folder)


@pytest.fixture
def moving_model(tiny_config: ModelConfig) -> RwkvClip:
    """A model none of whose branches is 0, so that every parameter has a gradient."""
    model = RwkvClip(tiny_config)
    initialise(model, 1)
    random = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=random)
    return model


@pytest.fixture(scope="session")
def samples() -> Path:
    return Path(__file__).parents[3] / "data" / "samples"


def key_of(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()
