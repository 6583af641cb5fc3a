"""What is compared for speed: models of our shapes and transformers of CLIP's, random weights."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

MODELS = {"b32": B32, "b16": B16}


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


def clip_tower(name: str, tower: str) -> ClipImage | ClipText:
    """Return CLIP's `image` or `text` tower beside the model `name`, for inference."""
    clip = ClipImage(MODELS[name].image.patch_size) if tower == "image" else ClipText()
    return clip.eval().requires_grad_(False)


def random_model(config: ModelConfig) -> RwkvClip:
    """Return a model in inference mode with small random weights."""
    model = RwkvClip(config)
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = 0.5 / max(1, parameter.shape[-1] if parameter.ndim else 1) ** 0.5
        parameter.data = scale * torch.randn(parameter.shape, generator=random)
    return model.eval().requires_grad_(False)


class _Packed(nn.Module):
    """A layer whose weights lie as oneDNN wants them, computing in `dtype`."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        from rwkvsearch.retrieval.rwkv_clip.packed import float_product

        super().__init__()
        self.dtype, self.product = dtype, float_product(layer.weight, dtype, bias=layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self.product(x.to(self.dtype))


def packed_clip(tower: ClipImage | ClipText, dtype: torch.dtype) -> nn.Module:
    """Return a copy for inference whose products are packed like ours; the rest is float32."""
    tower = copy.deepcopy(tower)
    for block in tower.blocks:
        for name in ("qkv", "output", "up", "down"):
            setattr(block, name, _Packed(getattr(block, name), dtype))
    return tower.eval()
