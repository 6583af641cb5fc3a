"""Our towers beside transformers of CLIP's shape: `python -m rwkvsearch.retrieval.speed`.

All with random weights, in the same torch, on the same threads. Timings on a shared machine drift,
so every round runs each contender once and the table holds medians of the ratios within a round.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from rwkvsearch.retrieval.models import Precision
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, STARTER, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip
from rwkvsearch.retrieval.rwkv_clip.packed import pack

MODELS = {"b32": B32, "b16": B16, "starter": STARTER}
PACKED: tuple[Precision, ...] = ("fp32", "bf16", "int8")
Contender = Callable[[Tensor], Tensor]


class TransformerBlock(nn.Module):
    """Attention and a GELU network, normalised before each. Input and output `[B, T, C]`."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.output(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class ClipImage(nn.Module):
    """The image tower of CLIP ViT-B: 12 blocks of 768 channels, a class token, 512 features."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        width, tokens = 768, (224 // patch_size) ** 2 + 1
        self.patches = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, tokens, width))
        self.norm0, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = [TransformerBlock(width, 12, causal=False) for _ in range(12)]
        self.blocks, self.project = nn.Sequential(*blocks), nn.Linear(width, 512, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features `[B, 512]`."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.position
        return self.project(self.norm(self.blocks(self.norm0(x))[:, 0]))  # type: ignore[no-any-return]


class ClipText(nn.Module):
    """The text tower of CLIP ViT-B: 12 causal blocks of 512 channels, 77 tokens."""

    def __init__(self) -> None:
        super().__init__()
        width = 512
        self.embed = nn.Embedding(49408, width)
        self.position = nn.Parameter(torch.zeros(1, 77, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, 8, causal=True) for _ in range(12)))
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, 512, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the features `[B, 512]`, of the token with the highest id as in CLIP."""
        x = self.norm(self.blocks(self.embed(ids) + self.position))
        return self.project(x[torch.arange(len(x)), ids.argmax(1)])  # type: ignore[no-any-return]


def main() -> None:
    """Read the options and print a table for images and one for texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="b32")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = MODELS[options.model]
    model = random_model(config)
    packed: dict[str, RwkvClip] = {p: pack(copy.deepcopy(model), p) for p in PACKED}
    sys.stdout.write(
        f"{options.model}, {options.threads} threads, medians of {options.rounds} rounds; ratio to "
        "the first line, share of Bi-WKV\n"
    )
    patch_size = config.image.patch_size if options.model != "starter" else 32
    size, context = config.image.image_size, config.text.context
    clip_image, clip_text = ClipImage(patch_size).eval(), ClipText().eval()
    for batch in options.batch:
        pixels = torch.randn(batch, 3, 224, 224)
        ids = torch.randint(0, config.text.vocabulary, (batch, 77))
        our_pixels = pixels[..., :size, :size].contiguous()
        our_ids = ids[:, :context].contiguous()
        images: dict[str, tuple[Contender, Tensor]] = {
            f"CLIP ViT-B/{patch_size}": (clip_image, pixels),
            f"CLIP ViT-B/{patch_size}, bf16": (_in_bf16(clip_image), pixels),
        }
        texts: dict[str, tuple[Contender, Tensor]] = {
            "CLIP ViT-B text": (clip_text, ids),
            "CLIP ViT-B text, bf16": (_in_bf16(clip_text), ids),
        }
        for name, ours in {"plain": model, **packed}.items():
            images[f"ours, {name}"] = ours.image, our_pixels
            texts[f"ours, {name}"] = ours.text, our_ids
        _table("images", batch, images, options.rounds)
        _table("texts", batch, texts, options.rounds)


def _in_bf16(tower: Contender) -> Contender:
    def run(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return tower(inputs)

    return run


def random_model(config: ModelConfig) -> RwkvClip:
    """Return a model in inference mode with small random weights."""
    model = RwkvClip(config)
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = 0.5 / max(1, parameter.shape[-1] if parameter.ndim else 1) ** 0.5
        parameter.data = scale * torch.randn(parameter.shape, generator=random)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def _table(
    what: str, batch: int, contenders: dict[str, tuple[Contender, Tensor]], rounds: int
) -> None:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, (run, inputs) in contenders.items():
            began = time.perf_counter()
            run(inputs)
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    first = next(iter(times.values()))
    sys.stdout.write(f"\n{what}, batch {batch:<10}{what + '/s':>12}{'ratio':>8}{'share':>8}\n")
    for name, (run, inputs) in contenders.items():
        ratio = statistics.median(a / b for a, b in zip(first, times[name], strict=True))
        share = _share(run, inputs)
        speed = batch / statistics.median(times[name])
        sys.stdout.write(f"{name:<24}{speed:>10.1f}{ratio:>8.2f}{share:>8}\n")


def _share(run: Contender, inputs: Tensor) -> str:
    """Return the part of the processor time in compiled Bi-WKV; `-` where none was called."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run(inputs)
    events = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    own = sum(event.cpu_time_total for event in events if event.key == "rwkvsearch::bi_wkv")
    return f"{own / whole:.1%}" if own else "-"


if __name__ == "__main__":
    main()
