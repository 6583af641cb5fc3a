"""Read one split of a caption set, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rwkvsearch.data.captions.find import LOOKED_FOR, Layout, caption_files, find_file
from rwkvsearch.data.captions.json_sets import read_json
from rwkvsearch.data.captions.naming import stands_for
from rwkvsearch.data.captions.places import find_pictures
from rwkvsearch.data.captions.sets import (
    EVERY_SPLIT,
    CaptionedImage,
    CaptionSet,
    Entry,
    Listing,
    refuse_repeated,
)
from rwkvsearch.data.captions.tables import read_table
from rwkvsearch.data.captions.tokens import read_tokens
from rwkvsearch.data.captions.webdataset import holds_shards, is_glob, read_shards
from rwkvsearch.data.errors import DataError

_READERS: dict[Layout, Callable[[Path], Listing]] = {
    "json": read_json,
    "tokens": read_tokens,
    "table": read_table,
}


def load_captions(
    source: Path, split: str | None = None, *, pictures: Path | None = None
) -> CaptionSet:
    """Read one split of a caption set; `source` is its file, its folder, or shards.

    The layout is told by what is in it; `docs/benchmarks.md` has all of them. Without `split`:
    test where there is such a split, else every image. `train` does not include Karpathy's
    `restval`. A COCO file is itself one split, named as in its file name; `val` stands for
    `val2017` where that is unambiguous. In a folder with several files `split` picks one, by
    default that of test, else of validation; Karpathy's comes before them. `EVERY_SPLIT` takes
    all images of a file.

    Pictures lie in the folder `pictures`, by default where such sets have them: in `images/`,
    `photos/`, a folder named after the set or split, beside the file, ...

    Raises `DataError` for a file, layout or split that is not there, an image that is listed
    twice, missing on disk or without a caption, and a caption that is empty or has no image.
    """
    file, listing = _read(Path(source), split)
    entries = listing.entries
    refuse_repeated(f"{file}: image id", (e.id for e in entries if e.id is not None))
    refuse_repeated(f"{file}: file name", (e.name for e in entries))
    chosen, name = _select(file, entries, split)
    bare = [entry.name for entry in chosen if not entry.captions]
    if bare:
        raise DataError(f"{file}: images without a caption: {len(bare)}, the first is {bare[0]}")
    inside = all(entry.inside for entry in chosen)
    paths = [Path(e.name) for e in chosen] if inside else find_pictures(file, chosen, pictures)
    pairs = zip(paths, chosen, strict=True)
    images = (CaptionedImage(path, e.captions, e.inside) for path, e in pairs)
    return CaptionSet(listing.title, name, tuple(images))


def has_captions(folder: Path) -> bool:
    """Whether a folder is a caption set and nothing else; shards and tables may be other things."""
    return any(found.layout != "table" for found in caption_files(folder))


def _read(source: Path, split: str | None) -> tuple[Path, Listing]:
    """What is read, and what it lists."""
    if not source.exists() and not is_glob(source):
        raise DataError(f"{source}: no such file or folder")
    if source.suffix == ".tar" or is_glob(source):
        return source, read_shards(source, split)
    found = find_file(source, split)
    if found:
        file = found.file.absolute()
        return file, _READERS[found.layout](file)
    if holds_shards(source):
        return source, read_shards(source, split)
    raise DataError(f"{source}: no captions here; looked for {LOOKED_FOR}")


def _select(file: Path, entries: list[Entry], split: str | None) -> tuple[list[Entry], str | None]:
    """The entries of the asked split, and the split's name as the file has it."""
    present = sorted({entry.split for entry in entries if entry.split is not None})
    if split == EVERY_SPLIT:
        split = None
    elif split is None:
        split = "test" if "test" in present else present[0] if len(present) == 1 else None
    elif split not in present:
        alike = [name for name in present if stands_for(split, name)]
        if len(alike) != 1:
            known = ", ".join(present) or "none"
            raise DataError(f"{file}: no split {split!r}; splits in this file: {known}")
        split = alike[0]
    chosen = [entry for entry in entries if split is None or entry.split == split]
    if not chosen:
        raise DataError(f"{file}: lists no images")
    return chosen, split
