"""Shapes of an RWKV-CLIP model. Nothing here has a hidden default: a config file states it all."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from rwkvsearch.data.errors import ModelError

T = TypeVar("T")


@dataclass(frozen=True)
class ImageTowerConfig:
    """Shape of the image tower."""

    image_size: int
    """Height and width of the input, pixels."""
    patch_size: int
    """Height and width of one patch, pixels."""
    depth: int
    """Number of blocks, at least 2."""
    width: int
    """Channels C, also the size of the embedding D."""
    heads: int
    """Heads H; the head size C / H must be a multiple of 4."""
    hidden_rate: int
    """Channels inside channel mix, as a multiple of C."""

    @property
    def rows(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def hidden(self) -> int:
        """Channels inside channel mix."""
        return self.width * self.hidden_rate


@dataclass(frozen=True)
class TextTowerConfig:
    """Shape of the text tower."""

    context: int
    """Tokens T every text is padded or cut to."""
    vocabulary: int
    """Entries of the tokenizer: 512 byte symbols, the merges, and two end marks."""
    depth: int
    """Number of blocks, at least 2."""
    width: int
    """Channels C, also the size of the embedding D."""
    head_size: int
    """Channels of one head N, even."""
    hidden: int
    """Channels inside channel mix."""
    head_size_divisor: int
    """Scales the eps of the GroupNorm: `1e-5 * head_size_divisor^2`."""

    @property
    def heads(self) -> int:
        """Heads H."""
        return self.width // self.head_size


@dataclass(frozen=True)
class ModelConfig:
    """Both towers, which share one embedding space."""

    image: ImageTowerConfig
    text: TextTowerConfig

    def __post_init__(self) -> None:
        """Refuse shapes that no tower could have."""
        _check(self)

    @property
    def dim(self) -> int:
        """Size of the embedding D."""
        return self.image.width

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return what `from_dict` reads, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; missing and unknown fields are errors naming them."""
        found = sorted(values) if isinstance(values, Mapping) else values
        if found != ["image", "text"]:
            raise ModelError(f"model config: expected image and text, found {found}")
        return cls(
            _strict(ImageTowerConfig, values["image"]), _strict(TextTowerConfig, values["text"])
        )

    @classmethod
    def from_official(cls, values: Mapping[str, Any]) -> Self:
        """Read a `model_config` JSON of the official RWKV-CLIP repository.

        Raises:
            ModelError: a field is missing, or asks for what no published model has.
        """
        try:
            if values["dim_att"] != values["n_embd"] or values["image_with_cls_token"]:
                raise ModelError(
                    "official model config: dim_att and class tokens are not supported"
                )
            return cls(
                ImageTowerConfig(
                    image_size=values["input_size"],
                    patch_size=values["image_patch_size"],
                    depth=values["image_depth"],
                    width=values["image_embed_dims"],
                    heads=values["image_num_heads"],
                    hidden_rate=values["image_hidden_rate"],
                ),
                TextTowerConfig(
                    context=values["ctx_len"],
                    vocabulary=values["vocab_size"],
                    depth=values["n_layer"],
                    width=values["n_embd"],
                    head_size=values["head_size"],
                    hidden=values["dim_ffn"],
                    head_size_divisor=values["head_size_divisor"],
                ),
            )
        except KeyError as error:
            raise ModelError(f"official model config: {error.args[0]} is missing") from error


def _strict(kind: type[T], values: Mapping[str, Any]) -> T:
    wanted = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    found = set(values) if isinstance(values, Mapping) else set()
    if found != wanted:
        odd = sorted(wanted ^ found)
        raise ModelError(f"model config: missing or unknown field {', '.join(odd)}")
    if wrong := [name for name, value in values.items() if type(value) is not int or value < 1]:
        raise ModelError(f"model config: {', '.join(wrong)} must be a positive whole number")
    return kind(**values)


def _check(config: ModelConfig) -> None:
    image, text = config.image, config.text
    problems = [
        (image.width != text.width, "both towers must have one width"),
        (image.image_size % image.patch_size != 0, "image_size must be a multiple of patch_size"),
        (image.width % image.heads != 0, "image width must be a multiple of heads"),
        (image.width // image.heads % 4 != 0, "image head size must be a multiple of 4"),
        (text.width % text.head_size != 0, "text width must be a multiple of head_size"),
        (text.head_size % 2 != 0, "text head_size must be even"),
        (min(image.depth, text.depth) < 2, "each tower needs at least 2 blocks"),
    ]
    if found := [message for wrong, message in problems if wrong]:
        raise ModelError(f"model config: {'; '.join(found)}")


_OFFICIAL_TEXT = TextTowerConfig(
    context=77,
    vocabulary=49408,
    depth=6,
    width=640,
    head_size=64,
    hidden=2240,
    head_size_divisor=8,
)
_B32 = ImageTowerConfig(image_size=224, patch_size=32, depth=12, width=640, heads=8, hidden_rate=5)

B32 = ModelConfig(_B32, _OFFICIAL_TEXT)
"""The official B/32 models: 149.6M parameters."""

B16 = ModelConfig(dataclasses.replace(_B32, patch_size=16), _OFFICIAL_TEXT)
"""The official B/16 model: 148.2M parameters."""

STARTER = ModelConfig(
    ImageTowerConfig(image_size=112, patch_size=16, depth=6, width=256, heads=8, hidden_rate=5),
    TextTowerConfig(
        context=24,
        vocabulary=16384,
        depth=4,
        width=256,
        head_size=32,
        hidden=896,
        head_size_divisor=8,
    ),
)
"""The model that ships in the package, small enough for a laptop without a GPU."""
