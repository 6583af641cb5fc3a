"""Which models there are, where their files lie, and how they are read.

A model is a folder of `model.safetensors` and `config.json`. The starter model ships in the
package; the others lie under `$RWKVSEARCH_HOME/models/`, put there by `pull.py`.
"""

import dataclasses
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.home import home_folder as home_folder
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
DEFAULT_MODEL = "starter"
Precision = Literal["fp32", "bf16", "int8", "bf16-openvino"]
"""What a model computes in; part of the id that its embeddings are kept under."""
EXACT: Precision = "fp32"
OPENVINO: Precision = "bf16-openvino"
"""bfloat16 as OpenVINO rounds, which is not as torch does."""
_SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelSpec:
    """A model this version knows by name."""

    name: str
    summary: str
    repository: str | None = None
    """Hub repository of the official checkpoint; None for a model that has none."""
    shipped: bool = False
    """Whether it is part of the package."""
    file: str = "model_31.pt"
    """Checkpoint inside the repository."""
    shape: str = "B/32"
    """B/32 or B/16."""


_OFFICIAL = "Kaichengalex/RWKV-CLIP-"
MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(DEFAULT_MODEL, "15M parameters, 112 px, ships in the package", shipped=True),
        ModelSpec("b32-yfcc15m", "150M parameters, trained on YFCC15M", f"{_OFFICIAL}B32-YFCC15M"),
        ModelSpec(
            "b32-laion10m", "150M parameters, trained on LAION10M", f"{_OFFICIAL}B32-LAION10M"
        ),
        ModelSpec(
            "b32-laion30m", "150M parameters, trained on LAION30M", f"{_OFFICIAL}B32-LAION30M"
        ),
        ModelSpec(
            "b16-laion10m",
            "148M parameters, 196 patches, trained on LAION10M",
            f"{_OFFICIAL}B16-LAION10M",
            shape="B/16",
        ),
    )
}
"""Every model of this version, by name. Source: the official repository's model zoo."""


@dataclass(frozen=True)
class ModelCard:
    """What `config.json` says of the weights beside it."""

    name: str
    sha256: str
    """Of the weights file."""
    prompt: str
    """Put before every text of a benchmark by default, such as `a photo of `; may be empty."""
    config: dict[str, dict[str, int]]
    """As `ModelConfig.from_dict` reads it."""
    source: str
    """Where the weights come from."""
    licence: str
    """Of the weights, which may differ from that of the code."""

    def id_of(self, precision: Precision) -> str:
        """Name, weights and precision: embeddings under one id can be compared."""
        return f"{self.name}-{self.sha256[:8]}-{precision}"


def checked_precision(name: str) -> Precision:
    """Return the precision called `name`; an unknown name is a `ModelError`."""
    for precision in get_args(Precision):
        if precision == name:
            return cast(Precision, precision)
    known = ", ".join(get_args(Precision))
    raise ModelError(f"no precision is called {name!r}; there are {known}")


def known_models() -> dict[str, ModelSpec]:
    """Return `MODELS` and the models that were trained here, by name."""
    own: list[str] = []
    with suppress(OSError):  # a folder that cannot be read has none to offer
        cards = (home_folder() / "models").glob(f"[!.]*/{CONFIG_FILE}")
        own = sorted(card.parent.name for card in cards)
    return MODELS | {name: ModelSpec(name, "trained here") for name in own if name not in MODELS}


def find_spec(name: str) -> ModelSpec:
    """Return the model called `name`; an unknown name is a `ModelError` listing those there are."""
    known = known_models()
    if name not in known:
        raise ModelError(f"no model is called {name!r}; there are {', '.join(known)}")
    return known[name]


def new_spec(name: str) -> ModelSpec:
    """Return a model to be trained; `ModelError` for a name that is taken or no folder name."""
    if name in MODELS:
        raise ModelError(f"{name} is one of the models of this version: choose another name")
    if not name or name.startswith(".") or Path(name).name != name:
        raise ModelError(f"{name!r} cannot be the name of a model: it becomes that of a folder")
    return ModelSpec(name, "trained here")


def folder_of(spec: ModelSpec) -> Path:
    """Return where the files of a model belong, present or not."""
    return (_SHIPPED if spec.shipped else home_folder() / "models") / spec.name


def is_present(spec: ModelSpec) -> bool:
    """Return whether both files of a model are there."""
    return all((folder_of(spec) / name).is_file() for name in (WEIGHTS_FILE, CONFIG_FILE))


def read_card(name: str) -> ModelCard:
    """Read the `config.json` of an installed model.

    Raises:
        ModelError: the name is unknown, the model is not installed, or its file is malformed.
    """
    spec = find_spec(name)
    if not is_present(spec):
        raise ModelError(f"model {name} is not installed in {folder_of(spec)}: {_remedy(spec)}")
    path = folder_of(spec) / CONFIG_FILE
    try:
        card = ModelCard(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: damaged: {error}") from error
    if card.name != name or not isinstance(card.sha256, str):
        raise ModelError(f"{path}: damaged: it is not the card of {name}")
    return card


def write_card(card: ModelCard, folder: Path) -> None:
    """Write what `read_card` reads, as the `config.json` of a model folder."""
    text = json.dumps(dataclasses.asdict(card), indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def checked_weights(card: ModelCard) -> Path:
    """Return the path of the weights after comparing their hash with the card's.

    Raises:
        ModelError: the file is not the one the card was written for.
    """
    spec = find_spec(card.name)
    path = folder_of(spec) / WEIGHTS_FILE
    found = sha256_of(path)
    if found != card.sha256:
        raise ModelError(
            f"{path}: damaged weights (sha256 {found[:12]}... instead of {card.sha256[:12]}...): "
            f"{_remedy(spec)} to replace them"
        )
    return path


def _remedy(spec: ModelSpec) -> str:
    if spec.repository:
        return f"run `rwkvsearch model pull {spec.name}`"
    return "reinstall rwkvsearch" if spec.shipped else "train it again with `rwkvsearch train`"


def describe(name: str) -> str:
    """Return what is known of an installed model: its card, then its `README.md` if it has one."""
    card = read_card(name)
    shape = ModelConfig.from_dict(card.config)
    facts = {
        "model": card.name,
        "weights": f"{folder_of(find_spec(name)) / WEIGHTS_FILE} (sha256 {card.sha256})",
        "image": f"{shape.image.image_size} px, {shape.image.rows**2} patches of "
        f"{shape.image.patch_size} px, {shape.image.depth} blocks",
        "text": f"{shape.text.context} tokens of {shape.text.vocabulary:,}, "
        f"{shape.text.depth} blocks",
        "embedding": f"{shape.dim} numbers",
        "prompt": repr(card.prompt),
        "source": card.source,
        "licence": card.licence,
    }
    lines = [f"{key:<10} {value}" for key, value in facts.items()]
    readme = folder_of(find_spec(name)) / "README.md"
    return "\n".join([*lines, "", readme.read_text("utf-8")] if readme.is_file() else lines)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
