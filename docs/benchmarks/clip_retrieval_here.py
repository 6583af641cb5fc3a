"""`clip-retrieval` offline, in its own environment: a local file stands for OpenAI's weights.

`make FILE` writes random weights of ViT-B/32; any other words are those of `clip-retrieval`, for
which the name `ViT-B/32` is the file of that name below the working folder. Where torchvision's
compiled operators do not fit the torch beside it, they are declared, since nothing here calls them.
"""

import sys
import warnings
from pathlib import Path

import torch


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declare_operators.kept = library  # type: ignore[attr-defined]


warnings.simplefilter("ignore")
_declare_operators()

import clip.clip  # noqa: E402
import clip.model  # noqa: E402

clip.clip._MODELS.clear()

if __name__ == "__main__":
    if sys.argv[1] == "make":
        target = Path(sys.argv[2])
        target.parent.mkdir(parents=True, exist_ok=True)
        shape = (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12)
        torch.save(clip.model.CLIP(*shape).state_dict(), target)
    else:
        from clip_retrieval.cli import main

        main()
