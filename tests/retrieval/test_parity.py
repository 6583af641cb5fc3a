"""The golden numbers that lie in the repository, and that the comparison sees what is wrong."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwkvsearch.data.errors import DataError, ModelError
from rwkvsearch.kernels import available_backends
from rwkvsearch.retrieval import parity
from rwkvsearch.retrieval.parity import compare

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in (".json", ".npz"))

Main = Callable[[Path], int]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    def run(folder: Path) -> int:
        monkeypatch.setattr("sys.argv", ["parity", str(folder)])
        return parity.main()

    return run


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def only(folder: Path, *names: str) -> Path:
    """Keep these files of a copy."""
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    return folder


def change_array(file: Path, key: str, change: Callable[[Any], Any]) -> None:
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays[key] = change(arrays[key].copy())
    np.savez(file, **arrays)


def test_golden_numbers(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(GOLDEN) == 0
    out = capsys.readouterr().out
    assert "BEYOND" not in out and "nan" not in out and ", 0 failed" in out
    cases = json.loads((GOLDEN / "wkv.json").read_text())
    for backend, reason in available_backends().items():
        assert out.count(f", {backend}, 6 tensors") == (0 if reason else len(cases))
    for wanted in ("tiny/img_emb", "tiny/txt_emb", "tiny/mid/img_lnx0", "pixels/gray", "30 texts"):
        assert wanted in out


@pytest.mark.slow
def test_all_fixtures(shared_data: Path, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    if not (shared_data / "fixtures").is_dir():
        pytest.skip(f"no {shared_data / 'fixtures'}")
    assert main(shared_data / "fixtures") == 0
    out = capsys.readouterr().out
    assert all(f"{name}/{side}_emb" in out for name in ("tiny", "B16") for side in ("img", "txt"))
    assert "gradients" in out and ", 0 failed" in out


def nan(x: Any) -> Any:
    x.flat[-1] = np.nan
    return x


def slightly(x: Any) -> Any:
    """Beyond 1e-5 of the largest value, far below what an eye would see."""
    x.flat[0] += 2e-5 * np.abs(x).max()
    return x


@pytest.mark.parametrize("change", [slightly, nan])
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("tiny.npz", "img_emb_f64"),
        ("tiny.npz", "txt_emb_f64"),
        ("tiny.npz", "mid/img_patch"),
        ("tiny.npz", "mid/txt_tokens"),
        ("tiny.npz", "clip_loss_f64"),
        ("wkv.npz", "t17/y"),
        ("wkv.npz", "t17/gw"),
        ("wkv.npz", "t3/gu"),
        ("wkv.npz", "t3/r"),
        ("pixels.npz", "gray/pixels_sub"),
    ],
)
def test_a_changed_truth_is_seen(
    file: str, key: str, change: Callable[[Any], Any], golden: Path, main: Main
) -> None:
    change_array(only(golden, file, file.replace("npz", "json")) / file, key, change)
    assert main(golden) == 1


def test_a_changed_gradient_is_seen(golden: Path) -> None:
    key = "grad/text_model.blocks.1.att.time_decay"
    file = only(golden, "tiny.npz", "tiny.json") / "tiny.npz"
    with np.load(file) as stored:
        np.savez(file, **dict(stored), **{key: np.full((1, 1, 64), np.nan, np.float32)})
    lines = [line for line in compare(golden) if "gradients" in line.what]
    assert [line.passed for line in lines] == [False]


def test_a_changed_token_is_seen(golden: Path, main: Main) -> None:
    file = only(golden, "tokens.json") / "tokens.json"
    texts = json.loads(file.read_text("utf-8"))
    texts[7]["ids"][1] += 1
    file.write_text(json.dumps(texts), "utf-8")
    assert [line.error for line in compare(golden)] == [1]
    assert main(golden) == 1


def test_other_weights_are_seen(golden: Path, main: Main) -> None:
    file = only(golden, "tiny.npz", "tiny.json") / "tiny.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": "other"}))
    assert main(golden) == 1


@pytest.fixture(scope="module")
def all_lines() -> set[str]:
    return {line.what for line in compare(GOLDEN)}


@pytest.mark.parametrize("file", FILES)
def test_any_file_may_be_absent(file: str, golden: Path, all_lines: set[str]) -> None:
    (golden / file).unlink()
    lines = list(compare(golden))
    assert all(line.passed for line in lines)
    stem = Path(file).stem
    assert {line.what for line in lines} == {x for x in all_lines if not x.startswith(stem)}


@pytest.mark.parametrize("file", ["tiny", "wkv", "tokens", "pixels"])
def test_any_file_may_be_alone(file: str, golden: Path) -> None:
    lines = list(compare(only(golden, f"{file}.json", f"{file}.npz")))
    assert lines and all(line.passed and line.what.startswith(file) for line in lines)


def test_stored_inputs_and_weights_come_before_the_recipe(golden: Path) -> None:
    """Zeros instead of the recipe's weights: the features are those of a model of zeros."""
    only(golden, "tiny.json", "tiny.npz")
    about = json.loads((golden / "tiny.json").read_text())
    stored = {f"sd/{key}": np.zeros(shape) for key, (shape, _) in about["state_dict"].items()}
    stored |= {
        "img_emb": np.zeros((3, 64)),
        "txt_emb": np.zeros((3, 64)),
        "logit_scale": np.ones(()),
    }
    stored |= {"images": np.ones((3, 3, 32, 32), np.float32), "tokens": np.ones((3, 12), np.int64)}
    np.savez(golden / "tiny.npz", **stored)
    lines = list(compare(golden))
    assert len(lines) == 5 and all(line.error == 0 for line in lines)


def test_no_folder(tmp_path: Path, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path / "nowhere") == 1
    assert capsys.readouterr().err == f"parity: {tmp_path / 'nowhere'}: no such folder\n"


def test_empty_folder(tmp_path: Path, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"parity: {tmp_path}: no fixtures")


def test_foreign_files_are_no_fixtures(tmp_path: Path) -> None:
    for name, content in {"a": [], "b": [1], "c": {}, "d": "text", "e": [{"x": 1}]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no fixtures"):
        list(compare(tmp_path))


@pytest.mark.parametrize("name", ["broken.json", "pixels.npz"])
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{")
    with pytest.raises(DataError, match=name):
        list(compare(tmp_path))


def test_a_model_whose_config_does_not_fit_its_weights(golden: Path) -> None:
    file = only(golden, "tiny.json", "tiny.npz") / "tiny.json"
    about = json.loads(file.read_text())
    about["config"]["n_layer"] = 3
    file.write_text(json.dumps(about))
    with pytest.raises(ModelError, match="tiny: weights do not fit.*text_model.blocks.2"):
        list(compare(golden))


def test_an_unknown_tensor_is_named(golden: Path) -> None:
    file = only(golden, "tiny.json", "tiny.npz") / "tiny.npz"
    with np.load(file) as stored:
        np.savez(file, **dict(stored), **{"mid/img_block9": np.ones(1)})
    with pytest.raises(DataError, match="no tensor mid/img_block9"):
        list(compare(golden))


def test_another_shape_is_an_error() -> None:
    assert math.isnan(parity._error(torch.ones(4, 3), np.ones((1, 3))))
