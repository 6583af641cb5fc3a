"""Configurations: every preset, and each way of being wrong with its one line."""

import tomllib
from pathlib import Path

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.training.config import (
    PRESETS,
    Recipe,
    TrainingConfig,
    load_config,
    load_preset,
)

LEAST = '[[data]]\npath = "x"\nshare = 4\n'


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    config = load_preset(name)
    assert config.data and config.recipe.steps > 100
    assert TrainingConfig.from_dict(config.to_dict(), "again") == config


def test_unknown_preset() -> None:
    with pytest.raises(
        DataError, match="no preset is called 'b64'; there are starter, starter-contrast, b32"
    ):
        load_preset("b64")


def test_defaults_and_whole_numbers_as_floats(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(LEAST + "[recipe]\npeak_rate = 1\n")
    config = load_config(file)
    assert config.recipe == Recipe(peak_rate=1.0) and config.data[0].share == 4
    assert type(config.recipe.peak_rate) is float


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"no \[\[data\]\]"),
        ("[[data", "not TOML"),
        ("[recipe]\nstep = 3\n" + LEAST, "recipe: unknown field step; known: steps, peak_rate"),
        ('[[data]]\npath = "x"\n', r"data\[0\]: 1 required positional argument: 'share' missing"),
        ('[[data]]\npath = "x"\nshare = "4"\n', r"data\[0\]: share: expected int, found '4'"),
        ('[[data]]\npath = "x"\nshare = true\n', r"share: expected int, found True"),
        ('recipe = "fast"\n' + LEAST, "recipe: expected Recipe, found 'fast'"),
        (LEAST + 'text = "name"\n', "text is neither caption, label nor none"),
        (LEAST + 'text = "none"\n', "contrast needs data with text"),
        (LEAST + "[recipe]\naverage = 1.0\n", "average must be at least 0 and below 1"),
        (LEAST + "[recipe]\nsmall_part = 0.5\n", "small_part without a small_size"),
        (LEAST + '[recipe]\nfreeze = "both"\n', "freeze is neither image nor text"),
        (LEAST + '[hardware]\nprecision = "fp8"\n', "precision is neither bf16 nor fp32"),
        (LEAST + "[objective]\nimage = 1.0\n", "targets and their weights need each other"),
        (LEAST + '[objective]\ntargets = "t"\n', "targets and their weights need each other"),
        (LEAST + "[recipe]\nclip = -1.0\n", "peak_rate, clip and layer_decay must be positive"),
        (LEAST + "[hardware]\nkeep_pixels = -1\n", "a count is negative"),
        (LEAST + "[objective]\ncontrast = 0.0\n", "no term of the loss has a weight"),
        (LEAST + "[objective]\nsentences = 3\n", "sentences need targets"),
    ],
)
def test_wrong_configurations(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        load_config(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no.toml: cannot be read"):
        load_config(tmp_path / "no.toml")


def test_every_preset_is_listed() -> None:
    import rwkvsearch.retrieval.training

    folder = Path(next(iter(rwkvsearch.retrieval.training.__path__))) / "presets"
    files = {file.stem for file in folder.glob("*.toml")}
    assert files == set(PRESETS)
    for file in folder.glob("*.toml"):
        tomllib.loads(file.read_text())


class TestRate:
    def test_warm_up_and_cosine(self) -> None:
        recipe = Recipe(steps=10, peak_rate=1.0, warm_up=4)
        rates = [recipe.rate(step) for step in range(10)]
        assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
        assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.1
        assert recipe.rate(10) == pytest.approx(0)

    def test_flat_before_it_cools_down(self) -> None:
        recipe = Recipe(steps=20, peak_rate=2.0, warm_up=0, cool_down=0.25)
        rates = [recipe.rate(step) for step in range(21)]
        assert rates[:16] == [2.0] * 16 and rates[16] < 2 and rates[20] == pytest.approx(0)


def test_image_size() -> None:
    recipe = Recipe(steps=10, small_size=80, small_part=0.7)
    assert [recipe.image_size(step, 112) for step in (0, 6, 7, 9)] == [80, 80, 112, 112]
