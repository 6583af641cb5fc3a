"""Where the pictures of a caption file lie: in a folder beside it that sets usually have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rwkvsearch.data.captions.sets import Entry
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import is_file

_OF_FLICKR = (
    "flickr30k-images",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Flickr8k_Dataset/Flicker8k_Dataset",
)


def find_pictures(file: Path, entries: list[Entry], folder: Path | None = None) -> list[Path]:
    """The path of the picture of each entry, all in one of the usual folders, or in `folder`.

    Names may begin with a folder, which may be there or not.

    Raises `DataError` with the number that is missing in the folder that has most of them.
    """
    home = file.parent.parent if file.parent.name == "annotations" else file.parent
    if folder and not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    home, places = (folder, (".",)) if folder else (home, _places(file))
    fewest: list[Path] | None = None
    for paths in _candidates(home, places, entries):
        missing = [path for path in paths if not is_file(path)]
        if not missing:
            return paths
        if fewest is None or len(missing) < len(fewest):
            fewest = missing
    assert fewest is not None
    where = folder or f"{', '.join(places[:6])} of {home} and where Flickr's archives have them"
    raise DataError(
        f"{file}: {len(fewest)} of {len(entries)} images are missing, the first is {fewest[0]}; "
        f"looked in {where} (bench recall: --pictures)"
    )


def _places(file: Path) -> tuple[str, ...]:
    part = file.stem.rpartition("_")[2]  # flickr8k, val2017
    beside = ("images", "Images", "photos", part, f"images/{part}", ".", *_OF_FLICKR)
    return (*beside, *(f"../{place}" for place in ("images", *_OF_FLICKR)))


def _candidates(home: Path, places: tuple[str, ...], entries: list[Entry]) -> Iterator[list[Path]]:
    for place in places:
        if (home / place).is_dir():
            yield [home / place / entry.name for entry in entries]
            yield [home / place / Path(entry.name).name for entry in entries]
