"""The registry, model cards, and weights that are missing, damaged or of another model."""

import json
import shutil
from pathlib import Path

import pytest

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval import models
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import (
    DEFAULT_MODEL,
    MODELS,
    checked_weights,
    describe,
    find_spec,
    folder_of,
    home_folder,
    is_present,
    read_card,
    sha256_of,
)


@pytest.fixture
def home(installed_home: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with an installed model that may be spoilt; returns the model's folder."""
    source, name = installed_home
    shutil.copytree(source, tmp_path / "home")
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models" / name


def test_registry() -> None:
    assert DEFAULT_MODEL in MODELS
    assert all(name == spec.name for name, spec in MODELS.items())
    assert {spec.shape for spec in MODELS.values()} == {"B/32", "B/16"}
    assert [name for name, spec in MODELS.items() if spec.repository is None] == [DEFAULT_MODEL]


def test_unknown_name_lists_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        find_spec("b64")
    assert str(caught.value) == f"no model is called 'b64'; there are {', '.join(MODELS)}"


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "h"))
    assert home_folder() == tmp_path / "h"
    assert folder_of(MODELS["b16-laion10m"]) == tmp_path / "h" / "models" / "b16-laion10m"
    assert not is_present(MODELS["b16-laion10m"])
    assert not (tmp_path / "h").exists()
    monkeypatch.delenv("RWKVSEARCH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert home_folder().name == "rwkvsearch"


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="b16-laion10m is not installed.*`rwkvsearch model pull"):
        read_card("b16-laion10m")
    with pytest.raises(ModelError, match="not installed"):
        Encoder.load("b16-laion10m")
    monkeypatch.setattr(models, "_SHIPPED", tmp_path)
    with pytest.raises(ModelError, match="starter is not installed.*reinstall rwkvsearch"):
        read_card("starter")


def test_installed(installed: str, checkpoint: Path) -> None:
    card = read_card(installed)
    assert (card.name, card.prompt) == (installed, "a photo of ")
    assert "Apache-2.0" in card.licence
    assert card.source == f"{checkpoint.name}, sha256 {sha256_of(checkpoint)}"
    assert sha256_of(checked_weights(card)) == card.sha256


def test_description(home: Path) -> None:
    text = describe(home.name)
    assert f"model      {home.name}\n" in text
    assert "32 px, 16 patches of 8 px, 2 blocks" in text and "12 tokens of 1,000" in text
    assert read_card(home.name).sha256 in text
    (home / "README.md").write_text("# A model card\n")
    assert describe(home.name) == f"{text}\n\n# A model card\n"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_half_installed(name: str, home: Path) -> None:
    (home / name).unlink()
    with pytest.raises(ModelError, match="is not installed"):
        Encoder.load(home.name)


def test_a_flipped_bit_is_found(home: Path) -> None:
    weights = home / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Encoder.load(home.name)
    text = str(caught.value)
    assert text.startswith(f"{weights}: damaged weights (sha256 ")
    assert text.endswith(f": run `rwkvsearch model pull {home.name}` to replace them")


def test_truncated_weights_are_found(home: Path) -> None:
    weights = home / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ModelError, match="damaged weights"):
        Encoder.load(home.name)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "{}", '{"name": "x"}', "\xff"])
def test_damaged_card(text: str, home: Path) -> None:
    (home / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json: damaged"):
        Encoder.load(home.name)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("config", {"image": {}}, "expected image and text"),
        ("config", {"image": {}, "text": {}}, "missing or unknown field"),
        ("config", None, r"config\.json: model config: expected image and text, found None"),
        ("config", {"image": 1, "text": 2}, "missing or unknown field depth, heads"),
        ("sha256", None, r"config\.json: damaged: it is not the card of"),
        ("name", "b16-laion10m", r"config\.json: damaged: it is not the card of"),
    ],
)
def test_card_with_a_wrong_value(field: str, value: object, reason: str, home: Path) -> None:
    path = home / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ModelError, match=reason):
        Encoder.load(home.name)


def test_the_right_hash_of_the_wrong_weights(home: Path) -> None:
    """A card and weights that belong together, but not to the config in the card."""
    path = home / "config.json"
    card = json.loads(path.read_text())
    card["config"]["text"]["vocabulary"] = 1001
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"text_model\.emb\.weight has shape \[1000, 32\] instead"):
        Encoder.load(home.name)


def test_the_shipped_model() -> None:
    if not is_present(MODELS[DEFAULT_MODEL]):
        pytest.skip("this checkout has no starter weights")
    card = read_card(DEFAULT_MODEL)
    assert card.licence and card.name == DEFAULT_MODEL
    encoder = Encoder.load()
    assert encoder.encode_texts(["a dog"]).shape == (1, 256)
    assert encoder.model_id == f"starter-{card.sha256[:8]}-fp32"


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        sha256_of(tmp_path / "no")
