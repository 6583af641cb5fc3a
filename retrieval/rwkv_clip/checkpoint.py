"""Reading and writing weights: official checkpoints at the border, safetensors inside.

Loading is strict: every tensor present, none left over, every shape right.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

OFFICIAL_NAMES = {
    "norm0": "ln0",
    "norm1": "ln1",
    "norm2": "ln2",
    "time_mix": "att",
    "channel_mix": "ffn",
    "patch_embed": "patch_embed.projection",
    "position": "pos_embed",
    "embed": "emb",
    "decay": "time_decay",
    "decay_down": "time_decay_w1",
    "decay_up": "time_decay_w2",
    "bonus": "time_faaaa",
    "mix_down": "time_maa_w1",
    "mix_up": "time_maa_w2",
}
"""Our name of a part to the official one; `official_name` adds what depends on the place."""


def official_name(name: str) -> str:
    """Return the official checkpoint's name of our parameter `name`."""
    if name == "logit_scale":
        return name
    tower, *parts = name.split(".")
    image, channel_mix = tower == "image", "channel_mix" in parts
    special = {"blocks": "layers" if image else "blocks"}
    special["norm"] = "ln_x" if "time_mix" in parts else "ln1" if image else "ln_out"
    mix = "spatial_mix" if image and channel_mix else "time_maa"
    special |= {f"mix_{letter}": f"{mix}_{letter}" for letter in "xwkvrg"}
    names = OFFICIAL_NAMES | special
    return ".".join([f"{tower}_model", *(names.get(part, part) for part in parts)])


def from_official(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Rename an official state dict to our `names`; unknown keys stay as they are."""
    ours = {official_name(name): name for name in names}
    clean = {_strip_wrappers(key): value for key, value in state.items()}
    return {ours.get(key, key): value for key, value in clean.items()}


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our state dict to the official names."""
    return {official_name(name): value for name, value in state.items()}


def build(config: ModelConfig, state: Mapping[str, Tensor], source: str) -> RwkvClip:
    """Make a model in inference mode from `state`, by our names or the official ones.

    Half-precision weights become float32, but for the bfloat16 parameters of official checkpoints,
    which keep their type and are widened in use.

    Raises:
        ModelError: a tensor is missing, left over or of the wrong shape; `source` is named.
    """
    with torch.device("meta"):
        model = RwkvClip(config)
    wanted = model.state_dict()
    if "text.embed.weight" not in state:
        state = from_official(state, wanted)
    _check_tensors(wanted, state, source)
    widened = {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}
    model.load_state_dict(widened, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file or an official `.pt` checkpoint, on the CPU.

    Raises:
        ModelError: the file is missing, damaged or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such weights file") from error
    except Exception as error:  # the unpickler raises whatever a foreign byte leads it to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: damaged or not a weights file ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path}: expected a flat dictionary of tensors")
    return state


def save_half(model: RwkvClip, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights as float16 safetensors, under our names."""
    state = {k: v.detach().to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    save_file(state, path, metadata=dict(metadata))


def _strip_wrappers(key: str) -> str:
    return key.split("module.")[-1].split("_orig_mod.")[-1]


def _check_tensors(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    problems = []
    if missing:
        problems.append(f"{_some(official_name(name) for name in missing)} missing")
    if extra:
        problems.append(f"{_some(extra)} not part of this model")
    problems += [
        f"{official_name(name)} has shape {list(state[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ][:3]
    if problems:
        raise ModelError(f"{source}: weights do not fit the model: {'; '.join(problems)}")


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
