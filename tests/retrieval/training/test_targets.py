"""Targets: written and read back, cut to a crop, and refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.training.targets import Targets, crop_targets, write_targets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    maps = np.arange(2 * 3 * 3 * 4).reshape(2, 3, 3, 4).astype(np.float16)
    write_targets(tmp_path, (["k", "l"], maps), (["a dog"], np.ones((1, 4), np.float16)), ["t"])
    return tmp_path


def test_read_back(folder: Path) -> None:
    targets = Targets(folder)
    assert targets.dim == 4 and targets.texts == ["a dog"]
    assert targets.of_images(["l", "k", "l"])[:, 0, 0, 0].tolist() == [36, 0, 36]
    assert targets.of_texts(["a dog", "a dog"]).shape == (2, 4)
    assert targets.has(key="k", text="a dog") and not targets.has(key="m")
    assert not targets.has(text="a cat")


@pytest.mark.parametrize("name", ["targets.json", "images.json", "images.npy", "texts.npy"])
def test_missing_and_damaged_files(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"{")
    with pytest.raises(DataError, match=f"{name}: no targets here, make them first"):
        Targets(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no targets here, make them first"):
        Targets(folder)


def test_arrays_that_do_not_fit(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((1, 3, 3, 4), np.float16))
    with pytest.raises(DataError, match=r"images\.npy \(1, 3, 3, 4\) does not fit"):
        Targets(folder)


WHOLE = np.array([[0, 0, 1, 1]], np.float32)


def crop(maps: np.ndarray, box: np.ndarray, side: int, mirrored: bool = False) -> torch.Tensor:
    return crop_targets(maps, box, np.array([mirrored]), side)


def test_the_whole_picture_at_its_own_grid_is_unchanged() -> None:
    maps = np.random.default_rng(0).standard_normal((1, 7, 7, 5)).astype(np.float16)
    got = crop(maps, WHOLE, 7)
    torch.testing.assert_close(got, torch.from_numpy(maps).float().flatten(1, 2))
    mirrored = crop(maps, WHOLE, 7, mirrored=True)
    torch.testing.assert_close(
        mirrored, torch.from_numpy(maps[:, :, ::-1].copy()).float().flatten(1, 2)
    )


def test_a_crop_of_a_ramp() -> None:
    """A target that grows from left to right (and another from top to bottom) is interpolated."""
    centres = (np.arange(8) + 0.5) / 8
    columns, rows = np.meshgrid(centres, centres)
    maps = np.stack([columns, rows], -1)[None].astype(np.float16)
    box = np.array([[0.25, 0.5, 0.5, 0.25]], np.float32)
    got = crop(maps, box, 4).view(4, 4, 2)
    across = 0.25 + 0.5 * (torch.arange(4) + 0.5) / 4
    down = 0.5 + 0.25 * (torch.arange(4) + 0.5) / 4
    torch.testing.assert_close(got[..., 0], across.expand(4, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(got[..., 1], down[:, None].expand(4, 4), atol=1e-3, rtol=0)
