"""Two linear maps that bring the features of two frozen teachers into one space, by contrast.

The features of a picture are a mean over cells, so the map of a cell is its share of the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.retrieval.training.loss import contrastive_loss


@dataclass(frozen=True)
class Pairs:
    """Rows of pictures and of texts that belong together, of one set.

    `texts[i]` are the rows of all texts of picture `pictures[i]`; pictures of one `groups[i]` are
    positives of each other. Every batch takes `share` of them.
    """

    pictures: Tensor
    texts: Sequence[Tensor]
    groups: Sequence[int]
    share: int


@dataclass(frozen=True)
class Heads:
    """Features `[..., F]` of pictures and `[..., E]` of texts to targets `[..., D]`."""

    image: nn.Linear
    text: nn.Linear
    log_scale: nn.Parameter


NOISE = 1.2
"""Standard deviation of the noise on features of pictures, in their own: keeps the map from
learning single pictures by heart."""
ANCHOR = 0.3
"""Pull towards the first maps."""


def fit_heads(
    pictures: Tensor, texts: Tensor, pairs: Sequence[Pairs], *, dim: int, steps: int, seed: int = 0
) -> Heads:
    """Fit both maps on features `[N, F]` and `[M, E]`; the same seed gives the same maps.

    They start from the principal components of the texts and the ridge regression of pictures on
    them, and then follow the contrastive loss of the pairs.
    """
    random = torch.Generator().manual_seed(seed)
    heads = _start(pictures, texts, pairs, dim)
    first = [layer.weight.detach().clone() for layer in (heads.image, heads.text)]
    spread = _sample(pictures, pairs).std(0)
    groups = [
        {"params": heads.image.parameters(), "lr": 2e-4},
        {"params": heads.text.parameters(), "lr": 1e-3},
        {"params": [heads.log_scale], "lr": 1e-2},
    ]
    optimizer = torch.optim.Adam(groups)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows, words, positives = _draw(pairs, random)
        features = pictures[rows].float()
        features = features + NOISE * spread * torch.randn(features.shape, generator=random)
        loss = contrastive_loss(
            heads.image(features), heads.text(texts[words].float()), heads.log_scale, positives
        )
        for layer, start in zip((heads.image, heads.text), first, strict=True):
            loss = loss + ANCHOR * (layer.weight - start).square().sum() / start.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        cosine.step()
    return heads


@torch.no_grad()
def _start(pictures: Tensor, texts: Tensor, pairs: Sequence[Pairs], dim: int) -> Heads:
    features = _sample(pictures, pairs)
    spoken = [p.texts[i] for p in pairs for i in _few(p).tolist()]
    goals = torch.stack([texts[rows].float().mean(0) for rows in spoken])
    middle, components = goals.mean(0), _principal(goals, dim)  # [E], [D, E]
    centred, mean = features - features.mean(0), features.mean(0)
    products = centred.T @ centred / len(centred)
    ridge = 0.1 * products.trace() / len(products) * torch.eye(len(products))
    aims = (goals - middle) @ components.T
    weight = torch.linalg.solve(products + ridge, centred.T @ aims / len(centred)).T  # [D, F]
    image, text = (nn.Linear(x.shape[1], dim) for x in (pictures, texts))
    for layer, values, zero in ((image, weight, mean), (text, components, middle)):
        layer.weight.copy_(values)
        layer.bias.copy_(-(values @ zero))
    return Heads(image, text, nn.Parameter(torch.tensor(15.0).log()))


def _principal(rows: Tensor, count: int) -> Tensor:
    centred = rows - rows.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    found: Tensor = vectors.mT.flip(0)[:count]
    return found


def _few(pairs: Pairs) -> Tensor:
    """Return positions of pictures, evenly spread, in proportion to the share of the set."""
    count = min(len(pairs.pictures), 100 * pairs.share)
    return torch.linspace(0, len(pairs.pictures) - 1, count).long()


def _sample(pictures: Tensor, pairs: Sequence[Pairs]) -> Tensor:
    return torch.cat([pictures[p.pictures[_few(p)]] for p in pairs]).float()


def _draw(pairs: Sequence[Pairs], random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of pictures, rows of texts and groups of a batch."""
    rows, words, groups = [], [], []
    for p in pairs:
        for i in torch.randint(len(p.pictures), (p.share,), generator=random).tolist():
            own = p.texts[i]
            rows.append(p.pictures[i])
            words.append(own[torch.randint(len(own), (), generator=random)])
            groups.append(p.groups[i])
    return torch.stack(rows), torch.stack(words), torch.tensor(groups)


def project(layer: nn.Linear, features: Tensor) -> Tensor:
    """Return the targets `[..., D]` of features `[..., F]`, as float16."""
    with torch.inference_mode():
        return functional.linear(features.float(), layer.weight, layer.bias).half()
