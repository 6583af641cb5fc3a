"""What a training run is told: frozen dataclasses, read from TOML, refused where they are wrong."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from rwkvsearch.data.errors import DataError

T = TypeVar("T")
PRESETS = ("starter", "starter-contrast", "b32", "b16", "finetune")


@dataclass(frozen=True)
class DataConfig:
    """One set of pictures; every batch holds `share` of them, or all where there are fewer."""

    path: str
    """A caption file, WebDataset shards, described pictures or a folder; see `examples.py`."""
    share: int
    split: str = "train"
    """Of a caption file; empty for one that knows no splits."""
    text: str = "caption"
    """`caption`: as it stands; `label`: a class name, put into sentences; `none`: no text is used.

    Pictures of one label are positives of each other.
    """
    exclude: str = ""
    """A set whose pictures are left out, by their names: test pictures."""


@dataclass(frozen=True)
class Recipe:
    """What decides the result, but for the data and the shape of the model."""

    steps: int = 1000
    peak_rate: float = 1e-3
    warm_up: int = 100
    """Steps from a rate of 0 to the peak."""
    cool_down: float = 1.0
    """Share of the steps after that over which a cosine leads back to 0, at the end."""
    muon: float = 0.0
    """Rate of Muon for the matrices of the blocks, as a share of `peak_rate`; 0: AdamW for all."""
    weight_decay: float = 0.1
    """For matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    average: float = 0.0
    """Share of the old in the exponential moving average of the weights; 0 keeps none."""
    layer_decay: float = 1.0
    """Rate of a block relative to the one after it; below 1 when fine-tuning."""
    freeze: str = ""
    """`image` or `text`: a tower that stays as it is."""
    small_size: int = 0
    """Image size of the first part, pixels: fewer tokens, more pairs in the same time."""
    small_part: float = 0.0
    """Share of the steps at the small size."""
    least_area: float = 0.4
    """Smallest part of a picture that a crop may show."""
    whiten: bool = False
    """Start the patch embedding from the principal components of the pictures' patches."""
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`."""
        if step < self.warm_up:
            return self.peak_rate * (step + 1) / self.warm_up
        left = (self.steps - step) / max(1, self.steps - self.warm_up)
        progress = 1 - min(1, left / self.cool_down)
        return self.peak_rate * (1 + math.cos(math.pi * progress)) / 2

    def image_size(self, step: int, full: int) -> int:
        """Return the image size of `step`, pixels."""
        return self.small_size if step < self.small_part * self.steps else full


@dataclass(frozen=True)
class Objective:
    """Weights of the terms of the loss; see `loss.py`."""

    contrast: float = 1.0
    contrast_from: float = 0.0
    """Share of the steps without contrast, at the beginning."""
    targets: str = ""
    """Folder of the teachers' targets (`rwkvsearch.retrieval.training.teachers`); empty: none."""
    image: float = 0.0
    """Features of a picture against their target."""
    patch: float = 0.0
    """Patch tokens against theirs."""
    text: float = 0.0
    """Features of a text against their target."""
    relation: float = 0.0
    """Similarities within the batch against those of the targets."""
    classes: float = 0.0
    """Pictures with class names against the targets of the names of all classes."""
    sentences: int = 0
    """Further texts in every batch, drawn from those that have a target."""


@dataclass(frozen=True)
class Hardware:
    """How a step is computed; the result depends on it only by rounding."""

    precision: str = "bf16"
    """Of the products: bf16 (autocast) or fp32."""
    part: int = 48
    """Most pairs that a core or GPU takes through the towers at once."""
    cached: bool = False
    """Forget each part after its features and compute it anew for its gradients: a batch of any
    size in the memory of one part, for a third more time."""
    checkpointing: bool = False
    """Keep only the input of each block for the way back."""
    keep_pixels: int = 256
    """Decoded pictures are kept in memory, reduced to this short side; 0 decodes each time."""


@dataclass(frozen=True)
class Validation:
    """Where recall is measured during training; an empty path measures nothing."""

    path: str = ""
    split: str = "val"
    every: int = 100
    """Steps between measurements and checkpoints."""


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run."""

    model: str = "starter"
    """Shape of a model trained from scratch: starter, b32 or b16."""
    start: str = ""
    """What to go on from instead: the name of a model, or the folder of a run."""
    data: tuple[DataConfig, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    objective: Objective = field(default_factory=Objective)
    hardware: Hardware = field(default_factory=Hardware)
    validation: Validation = field(default_factory=Validation)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Self:
        """Read what TOML gives; `where` names it in errors.

        Raises:
            DataError: an unknown field, a value of the wrong kind, or one without sense.
        """
        config = _read(cls, values, where)
        if problems := _problems(config):
            raise DataError(f"{where}: {'; '.join(problems)}")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads."""
        return dataclasses.asdict(self)


def load_config(path: Path) -> TrainingConfig:
    """Read a TOML file.

    Raises:
        DataError: it cannot be read or says what `from_dict` refuses.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def load_preset(name: str) -> TrainingConfig:
    """Read a preset of the package; an unknown name is a `DataError` listing those there are."""
    if name not in PRESETS:
        raise DataError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    file = files("rwkvsearch.retrieval.training") / "presets" / f"{name}.toml"
    return _parse(file.read_text(encoding="utf-8"), f"preset {name}")


def _parse(text: str, where: str) -> TrainingConfig:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where}: not TOML: {error}") from error
    return TrainingConfig.from_dict(values, where)


def _read(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise DataError(f"{where}: unknown field {', '.join(unknown)}; known: {', '.join(hints)}")
    read = {name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**read)
    except TypeError as error:  # a field without a default is missing
        raise DataError(f"{where}: {str(error).partition('missing ')[2]} missing") from error


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _read(kind, value, where)  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_value(get_args(kind)[0], x, f"{where}[{n}]") for n, x in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type | UnionType) and type(value) is kind:
        return value
    raise DataError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r}")


def _problems(config: TrainingConfig) -> list[str]:
    recipe, objective, hardware = config.recipe, config.objective, config.hardware
    taught = objective.image + objective.patch + objective.text
    taught += objective.relation + objective.classes
    checks = [
        (not config.data, "no [[data]]"),
        (any(d.share < 1 for d in config.data), "a share of [[data]] is below 1"),
        (
            any(d.text not in ("caption", "label", "none") for d in config.data),
            "text is neither caption, label nor none",
        ),
        (recipe.steps < 1 or config.validation.every < 1, "steps and every must be positive"),
        (
            recipe.peak_rate <= 0 or recipe.clip <= 0 or recipe.layer_decay <= 0,
            "peak_rate, clip and layer_decay must be positive",
        ),
        (
            min(
                recipe.muon,
                recipe.weight_decay,
                recipe.warm_up,
                *dataclasses.astuple(objective)[:2],
            )
            < 0,
            "muon, weight_decay, warm_up and contrast must not be negative",
        ),
        (objective.sentences < 0 or hardware.keep_pixels < 0, "a count is negative"),
        (objective.contrast <= 0 and taught <= 0, "no term of the loss has a weight"),
        (objective.sentences > 0 and not objective.targets, "sentences need targets"),
        (
            not objective.sentences and all(d.text == "none" for d in config.data),
            "no texts at all: add data with text, or sentences",
        ),
        (not 0 <= recipe.average < 1, "average must be at least 0 and below 1"),
        (recipe.small_part > 0 and recipe.small_size < 1, "small_part without a small_size"),
        (not 0 < recipe.least_area <= 1, "least_area must be above 0, at most 1"),
        (not 0 < recipe.cool_down <= 1, "cool_down must be above 0, at most 1"),
        (recipe.freeze not in ("", "image", "text"), "freeze is neither image nor text"),
        (hardware.precision not in ("bf16", "fp32"), "precision is neither bf16 nor fp32"),
        (hardware.part < 1, "part must be positive"),
        (bool(objective.targets) != (taught > 0), "targets and their weights need each other"),
        (taught > 0 and not hardware.keep_pixels, "targets need a keep_pixels above 0"),
        (
            objective.contrast > 0 and all(d.text == "none" for d in config.data),
            "contrast needs data with text",
        ),
    ]
    return [message for wrong, message in checks if wrong]
