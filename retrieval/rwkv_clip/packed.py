"""Both towers for inference on a CPU: the same mathematics, with what can be prepared done once.

Weights are packed into the layout of oneDNN's products, with the activation after them and the bias
fused in; the base of each interpolation becomes the bias of its low-rank product; GroupNorm becomes
a LayerNorm over rows of one head. What is left between the products works in place.

Precision:
    fp32: exact, equal to the plain towers up to rounding.
    bf16: weights and activations in bfloat16; the residual stream, the decay and Bi-WKV in float32.
    int8: weights per output channel, activations per call, so that an embedding depends on what is
        encoded beside it (1e-4 in cosine); low-rank products stay in float32.
"""

import logging
import warnings
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.data.errors import ModelError
from rwkvsearch.kernels import bi_wkv
from rwkvsearch.retrieval.models import EXACT, Precision
from rwkvsearch.retrieval.rwkv_clip.mixing import Block, ChannelMix, TimeMix
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

logger = logging.getLogger(__name__)

INT8_ENGINE = "x86"
Product = Callable[[Tensor], Tensor]
"""`[..., in] -> [..., out]`."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "sigmoid": torch.sigmoid_,
    "swish": lambda x: functional.silu(x, inplace=True),
    "tanh": torch.tanh_,
}


def pack(model: RwkvClip, precision: Precision = EXACT) -> RwkvClip:
    """Replace the blocks and the patch embedding of both towers by packed ones.

    The model can only infer afterwards: no gradients, no state dict.

    Raises:
        ModelError: this processor or build of torch cannot compute in that precision.
    """
    if precision == "int8" and INT8_ENGINE not in torch.backends.quantized.supported_engines:
        raise ModelError("int8 needs an x86 processor: use fp32 or bf16")
    if not _can_pack(_dtype(precision)):
        logger.info("oneDNN has no %s here: products are not packed", precision)
    model.image.patch_embed = _Patches(model.image.patch_embed, precision)  # type: ignore[assignment]
    for tower in (model.image, model.text):
        blocks = cast(Iterable[Block], tower.blocks)
        tower.blocks = nn.Sequential(*(_Block(block, precision) for block in blocks))
    return model


class _Patches(nn.Module):
    """The patch embedding as one product: pixels `[B, 3, S, S]` to `[B, C, rows, rows]`."""

    def __init__(self, source: nn.Conv2d, precision: Precision) -> None:
        super().__init__()
        self.size = source.kernel_size[0]
        self.product = float_product(source.weight.flatten(1), _dtype(precision), bias=source.bias)
        self.dtype = _dtype(precision)

    def forward(self, pixels: Tensor) -> Tensor:
        """Cut into patches and embed them."""
        batch, channels, side, _ = pixels.shape
        rows, size = side // self.size, self.size
        pixels = pixels[..., : rows * size, : rows * size]  # as a convolution would
        patches = pixels.view(batch, channels, rows, size, rows, size).permute(0, 2, 4, 1, 3, 5)
        patches = patches.to(self.dtype).reshape(batch, rows**2, channels * size**2)
        x = self.product(patches).float()  # [B, T, C]
        return x.mT.view(batch, x.shape[2], rows, rows)


class _Block(nn.Module):
    """A packed block; changes its input `[B, T, C]` in place, but for the first of a tower."""

    def __init__(self, source: Block, precision: Precision) -> None:
        super().__init__()
        self.norm0, self.norm1, self.norm2 = source.norm0, source.norm1, source.norm2
        self.dtype = _dtype(precision)
        self.time_mix = _TimeMix(source.time_mix, precision)
        self.channel_mix = _ChannelMix(source.channel_mix, precision)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block; the residual stream is float32."""
        x = self.norm0(x)
        x.add_(self.time_mix(self.norm1(x).to(self.dtype)))
        return x.add_(self.channel_mix(self.norm2(x).to(self.dtype)))


class _TimeMix:
    def __init__(self, source: TimeMix, precision: Precision) -> None:
        dtype = _dtype(precision)
        self.heads, self.shift = source.heads, source.shift
        self.mix_x = source.mix_x.to(dtype)
        self.down = float_product(source.mix_down.T, dtype, activation="tanh")
        bases = (source.mix_w, source.mix_k, source.mix_v, source.mix_r, source.mix_g)
        self.ups = [
            float_product(up.T, dtype, bias=base.flatten())
            for up, base in zip(source.mix_up, bases, strict=True)
        ]
        self.decay = source.decay.float()
        self.decay_down = float_product(source.decay_down.T, dtype, activation="tanh")
        self.decay_up = float_product(source.decay_up.T, dtype)
        self.bonus = source.bonus.float()
        self.key = _product(source.key, precision)
        self.value = _product(source.value, precision)
        self.receptance = _product(source.receptance, precision)
        self.gate = _product(source.gate, precision, "swish")
        self.output = _product(source.output, precision)
        self.norm = source.norm

    def __call__(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        delta = self.shift(x).sub_(x)
        low = self.down(torch.addcmul(x, delta, self.mix_x)).chunk(5, -1)
        xw, xk, xv, xr, xg = (
            torch.addcmul(x, delta, up(part)) for up, part in zip(self.ups, low, strict=True)
        )
        w = self.decay + self.decay_up(self.decay_down(xw))
        heads = (batch, tokens, self.heads, width // self.heads)
        y = bi_wkv(
            self.receptance(xr).view(heads),
            self.key(xk).view(heads),
            self.value(xv).view(heads),
            w.view(heads),
            self.bonus,
        )
        y = functional.layer_norm(y, heads[-1:], eps=self.norm.eps).view(batch, tokens, width)
        y = torch.addcmul(self.norm.bias, y, self.norm.weight)
        return self.output(self.gate(xg).mul_(y))


class _ChannelMix:
    def __init__(self, source: ChannelMix, precision: Precision) -> None:
        dtype = _dtype(precision)
        self.shift = source.shift
        mixes = (source.mix_k, source.mix_r)
        self.mix_k, self.mix_r = (
            (mix if source.toward_neighbour else 1 - mix).to(dtype) for mix in mixes
        )
        self.key = _product(source.key, precision, "relu")
        self.receptance = _product(source.receptance, precision, "sigmoid")
        self.value = _product(source.value, precision)

    def __call__(self, x: Tensor) -> Tensor:
        delta = self.shift(x).sub_(x)
        key = self.key(torch.addcmul(x, delta, self.mix_k))
        gate = self.receptance(torch.addcmul(x, delta, self.mix_r))
        return gate.mul_(self.value(key.mul_(key)))


def _dtype(precision: Precision) -> torch.dtype:
    """Return the type of the activations between the products."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _product(layer: nn.Linear, precision: Precision, activation: str = "none") -> Product:
    if precision == "int8":
        return _int8_product(layer.weight, activation)
    return float_product(layer.weight, _dtype(precision), activation=activation)


def float_product(
    weight: Tensor, dtype: torch.dtype, *, bias: Tensor | None = None, activation: str = "none"
) -> Product:
    """Return x -> activation(x W^T + b) for `weight` `[out, in]`."""
    weight = weight.detach().to(dtype).contiguous()
    bias = bias.detach().to(dtype) if bias is not None else None
    if not _can_pack(dtype):
        return lambda x: _ACTIVATIONS[activation](functional.linear(x, weight, bias))
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], "")


def _int8_product(weight: Tensor, activation: str) -> Product:
    """Return x -> activation(x W^T) with 8-bit operands and a float32 result."""
    scales = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny).double() / 127
    zeros = torch.zeros(len(weight), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tensors of 8-bit type are to go one day
        quantized = torch.quantize_per_channel(
            weight.detach().float(), scales, zeros, 0, torch.qint8
        )
    packed = torch.ops.quantized.linear_prepack(quantized, None)
    apply = _ACTIVATIONS[activation]
    # Older processors add pairs of products in 16 bits that saturate: 7-bit activations fit.
    narrow = not torch.cpu._is_vnni_supported()
    return lambda x: apply(torch.ops.quantized.linear_dynamic(x, packed, narrow))


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN is part of this torch and, for bfloat16, the processor has what it needs."""
    present: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    present = present and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return present and (
        dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
