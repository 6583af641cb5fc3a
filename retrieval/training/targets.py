"""What frozen teachers say of the pictures and texts of a run: a folder of arrays, mapped.

    targets.json     {"dim": D, "grid": G, "teachers": [...]}
    images.npy       [N, G, G, D] float16, the target of each cell of the whole picture
    images.json      N SHA-256 of picture files
    texts.npy        [M, D] float16
    texts.json       M texts

The target of a picture, or of a crop, is the mean over its cells: both towers learn one space.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rwkvsearch.data.errors import DataError


class Targets:
    """The targets in `folder`.

    Raises:
        DataError: the folder lacks a file or holds what does not fit together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        notes = _read_json(folder / "targets.json")
        image_keys, self.texts = (_read_json(folder / f"{n}.json") for n in ("images", "texts"))
        self._maps, self._vectors = (_map(folder / f"{n}.npy") for n in ("images", "texts"))
        self.dim, grid = int(notes["dim"]), int(notes["grid"])
        if self._maps.shape != (len(image_keys), grid, grid, self.dim):
            raise DataError(f"{folder}: images.npy {self._maps.shape} does not fit its keys")
        if self._vectors.shape != (len(self.texts), self.dim):
            raise DataError(f"{folder}: texts.npy {self._vectors.shape} does not fit its texts")
        self._image_rows = {key: row for row, key in enumerate(image_keys)}
        self._text_rows = {text: row for row, text in enumerate(self.texts)}

    def has(self, *, key: str | None = None, text: str | None = None) -> bool:
        """Return whether there is a target for the picture `key` and for `text`."""
        known_key = key is None or key in self._image_rows
        return known_key and (text is None or text in self._text_rows)

    def of_images(self, keys: Sequence[str]) -> NDArray[np.float16]:
        """Return `[B, G, G, D]`."""
        return np.stack([self._maps[self._image_rows[key]] for key in keys])

    def of_texts(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Return `[B, D]`."""
        return np.stack([self._vectors[self._text_rows[text]] for text in texts])


def crop_targets(
    maps: NDArray[np.float16], boxes: NDArray[np.float32], mirrored: NDArray[np.bool_], side: int
) -> Tensor:
    """Return the targets `[B, side * side, D]` of the patches of crops, row by row.

    Args:
        maps: `[B, G, G, D]` of whole pictures.
        boxes: `[B, 4]`, left, top, width and height as shares of the picture.
        mirrored: `[B]`, whether left and right were swapped after the crop.
        side: patches in a row.
    """
    centres = (torch.arange(side) + 0.5) / side
    left, top, width, height = torch.from_numpy(boxes).float().T[..., None]
    columns, rows = left + width * centres, top + height * centres  # [B, side]
    columns = torch.where(torch.from_numpy(mirrored)[:, None], columns.flip(1), columns)
    places = torch.stack(
        [
            columns[:, None, :].expand(-1, side, -1),
            rows[:, :, None].expand(-1, -1, side),
        ],
        -1,
    )
    cells = torch.from_numpy(maps).float().movedim(-1, 1)  # [B, D, G, G]
    drawn = functional.grid_sample(
        cells, places * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return drawn.flatten(2).mT


def write_targets(
    folder: Path,
    images: tuple[Sequence[str], NDArray[np.float16]],
    texts: tuple[Sequence[str], NDArray[np.float16]],
    teachers: Sequence[str],
) -> None:
    """Write what `Targets` reads; `targets.json` last: a folder without it is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "targets.json").unlink(missing_ok=True)
    for name, (keys, values) in (("images", images), ("texts", texts)):
        np.save(folder / f"{name}.npy", values)
        (folder / f"{name}.json").write_text(json.dumps(list(keys)), encoding="utf-8")
    notes = {"dim": texts[1].shape[1], "grid": images[1].shape[1], "teachers": list(teachers)}
    (folder / "targets.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no targets here, make them first: {error}") from error


def _map(path: Path) -> NDArray[np.float16]:
    try:
        array: NDArray[np.float16] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no targets here, make them first: {error}") from error
    return array
