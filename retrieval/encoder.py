"""Pictures and texts to embeddings, with one installed model."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.preprocess import PREPROCESSING_ID, preprocess
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.cores import map_on_cores
from rwkvsearch.retrieval.graphs.choice import Engines, Run, compiled_towers, faster
from rwkvsearch.retrieval.graphs.files import Tower
from rwkvsearch.retrieval.models import (
    CONFIG_FILE,
    DEFAULT_MODEL,
    EXACT,
    OPENVINO,
    ModelCard,
    Precision,
    checked_precision,
    checked_weights,
    read_card,
)
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, load_tensors
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.rwkv_clip.packed import pack
from rwkvsearch.retrieval.staging import Staging

TOKENS_AT_ONCE = 1600
"""Most tokens of one micro-batch on the CPU: more gain nothing."""
TOKENS_A_CORE = 200
"""Fewest tokens of one micro-batch: with less for each core, torch splits the operations better."""


class Encoder:
    """An RWKV-CLIP model with its transform and its tokenizer, computing in one precision.

    Embeddings are float32, L2-normalised, `[B, D]`. Safe to share among threads.
    """

    def __init__(
        self, model: RwkvClip, card: ModelCard, device: torch.device, precision: Precision = EXACT
    ) -> None:
        """Use `Encoder.load`."""
        text = model.config.text
        self.card = card
        self.config = model.config
        self.device = device
        self.precision = precision
        self._staging = Staging(device)
        if device.type == "cpu":
            engines = compiled_towers(model, card, precision)
            self._model = pack(model, EXACT if precision == OPENVINO else precision)
            self._engines = engines if precision == OPENVINO else self._faster(engines)
        else:
            self._model, self._engines = model.to(device), {}
        self._tokenizer = Tokenizer(text.vocabulary, text.context)

    @classmethod
    def load(
        cls,
        name: str = DEFAULT_MODEL,
        *,
        device: str | None = None,
        precision: Precision = EXACT,
    ) -> Self:
        """Load an installed model by its name.

        `device` is a torch device such as `cpu` or `cuda:0`; None takes `$RWKVSEARCH_DEVICE`, else
        the CPU. `precision` is `fp32` (exact), `bf16` or, on a CPU, `int8` or `bf16-openvino`;
        embeddings of different precisions are kept apart by their model id. Where OpenVINO is
        installed and faster, it computes `fp32`: see `graphs.choice`.

        Raises:
            ModelError: unknown or missing model, damaged weights, a device that is not there, or a
                precision it does not have.
        """
        precision = checked_precision(precision)
        place = usable_device(device_name(device))
        if precision in ("int8", OPENVINO) and place.type != "cpu":
            raise ModelError(f"{precision} runs on a CPU only, not on {place}: use bf16")
        return cls(*load_model(name), place, precision)

    @property
    def model_id(self) -> str:
        """Name, weights and precision: embeddings under one id can be compared."""
        return self.card.id_of(self.precision)

    @property
    def preprocessing_id(self) -> str:
        """Name of the image transform and its size."""
        return f"{PREPROCESSING_ID}-{self.image_size}"

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file."""
        return self.card.sha256

    @property
    def dim(self) -> int:
        """Size of an embedding D."""
        return self.config.dim

    @property
    def image_size(self) -> int:
        """Height and width of the input S, pixels."""
        return self.config.image.image_size

    @property
    def scale(self) -> float:
        """What the model was trained to multiply cosines by before a softmax."""
        return float(self._model.logit_scale.exp())

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """Return an RGB image as pixels `[3, S, S]`."""
        return preprocess(image, self.image_size)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the embeddings `[B, D]` of RGB images of any size."""
        return self.encode_pixels(self._pixels(images))

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings `[B, D]` of pixels `[B, 3, S, S]`."""
        return _normalised(self.encode_features(pixels))

    def encode_features(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings `[B, D]` of pixels `[B, 3, S, S]` before normalisation."""
        engine = self._engines.get("image")
        if engine is not None and engine.takes(pixels):
            return engine(pixels)
        return self._run(self._model.image, pixels, self.config.image.rows**2)

    def encode_patches(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the patch tokens `[B, T, D]` of RGB images of any size, row by row.

        Their mean over T, normalised, is the embedding.
        """
        return self._run(self._model.image.tokens, self._pixels(images), self.config.image.rows**2)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings `[B, D]` of texts; what is beyond the context is cut off."""
        ids, engine = self._tokenizer(texts), self._engines.get("text")
        if engine is not None and engine.takes(ids):
            return _normalised(engine(ids))
        return _normalised(self._run(self._model.text, ids, self.config.text.context))

    def _pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        pixels = np.empty((len(images), 3, self.image_size, self.image_size), np.float32)
        for out, image in zip(pixels, images, strict=True):
            out[:] = self.preprocess(image)
        return pixels

    def _faster(self, engines: Engines) -> Engines:
        image, text = self.config.image, self.config.text
        in_torch: dict[Tower, Run] = {
            "image": lambda pixels: self._run(self._model.image, pixels, image.rows**2),
            "text": lambda ids: self._run(self._model.text, ids, text.context),
        }
        return faster(engines, in_torch, self.card)

    def _run(
        self, function: Callable[[Tensor], Tensor], inputs: NDArray[np.generic], tokens: int
    ) -> NDArray[np.float32]:
        """Return `function` of all `inputs` `[B, ...]`, in micro-batches, as float32."""
        half = self.precision == "bf16" and self.device.type != "cpu"

        def inferred(part: Tensor) -> Tensor:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=half),
            ):
                return function(part).float()

        if self.device.type == "cpu":
            parts = torch.from_numpy(inputs).tensor_split(micro_batches(len(inputs) * tokens))
            result = torch.cat(map_on_cores(inferred, parts))
        else:
            result = self._staging.map(inferred, inputs)
        outputs: NDArray[np.float32] = result.numpy()
        return outputs


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    embeddings: NDArray[np.float32] = functional.normalize(
        torch.from_numpy(features), dim=-1
    ).numpy()
    return embeddings


def micro_batches(tokens: int) -> int:
    """Return into how many micro-batches to cut so many tokens: one, or the same for each core."""
    cores = torch.get_num_threads()
    if tokens < cores * TOKENS_A_CORE:
        return 1
    return cores * math.ceil(tokens / (cores * TOKENS_AT_ONCE))


def load_model(name: str) -> tuple[RwkvClip, ModelCard]:
    """Return an installed model in inference mode, on the CPU, and its card.

    Raises:
        ModelError: unknown or missing model, or damaged files.
    """
    card = read_card(name)
    path = checked_weights(card)
    try:
        config = ModelConfig.from_dict(card.config)
    except ModelError as error:
        raise ModelError(f"{path.with_name(CONFIG_FILE)}: {error}") from error
    return build(config, load_tensors(path), str(path)), card


def device_name(asked: str | None) -> str:
    """Return the device to use: what is asked for, else `$RWKVSEARCH_DEVICE`, else the CPU."""
    return asked or os.environ.get("RWKVSEARCH_DEVICE") or "cpu"


def usable_device(name: str) -> torch.device:
    """Return the torch device called `name`; `ModelError` where it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    # torch raises whatever its backend does: AssertionError, ImportError, NotImplementedError.
    except Exception as error:
        reason = str(error).splitlines()[0][:100]
        raise ModelError(f"device {name!r} cannot be used ({reason}): try `cpu`") from error
    return device
