"""Sets of captioned photographs, in the layouts of Karpathy and of COCO.

A set with a fault is refused with its reason and never mended in silence: a recall over fewer
images is another recall.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import is_file

EVERY_SPLIT = "*"
_LOOKED_FOR = "dataset_*.json, samples.json, captions_*.json, annotations/captions_*.json"


@dataclass(frozen=True)
class CaptionedImage:
    """One image file and what is said about it, at least one caption."""

    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet:
    """The images of one split; `split` is None where the file knows no splits, or for all."""

    name: str
    split: str | None
    images: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class _Entry:
    """An image as a caption file lists it; `folder` is relative to the image folder."""

    id: int | str | None
    folder: str
    filename: str
    split: str | None
    captions: tuple[str, ...]


def load_captions(source: Path, split: str | None = None) -> CaptionSet:
    """Read one split of a caption set; `source` is a JSON file or the folder that holds it.

    Without `split`: test where the file has such a split, else every image. `train` does not
    include Karpathy's `restval`. A COCO file is itself one split, named as in its file name;
    `val` stands for `val2017` where that is unambiguous. In a folder with several COCO files
    `split` picks one, by default the validation file; `dataset_*.json` comes before them.
    `EVERY_SPLIT` takes all images of a file.

    Images lie in `images/`, `photos/`, a folder named after the set or split, or beside the file.

    Raises `DataError` for a file, layout or split that is not there, an image that is listed
    twice, missing on disk or without a caption, and a caption that is empty or has no image.
    """
    file = _caption_file(Path(source), split).absolute()
    document = _read_json(file)
    listed = document.get("images") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(image, dict) for image in listed):
        raise DataError(f"{file}: neither Karpathy's nor COCO's layout: no list of `images`")
    if "annotations" in document:
        entries = _coco_entries(file, listed, document["annotations"])
    else:
        entries = [_karpathy_entry(f"{file}: image {n}", image) for n, image in enumerate(listed)]
    _refuse_repeated(f"{file}: image id", (e.id for e in entries if e.id is not None))
    _refuse_repeated(f"{file}: file name", (f"{e.folder}/{e.filename}" for e in entries))
    chosen, name = _select(file, entries, split)
    bare = [entry.filename for entry in chosen if not entry.captions]
    if bare:
        raise DataError(f"{file}: images without a caption: {len(bare)}, the first is {bare[0]}")
    paths = _image_paths(file, chosen)
    images = (CaptionedImage(path, e.captions) for path, e in zip(paths, chosen, strict=True))
    title = document.get("dataset") or file.stem.removeprefix("dataset_")
    return CaptionSet(str(title), name, tuple(images))


def has_captions(folder: Path) -> bool:
    """Whether a folder holds a caption file that `load_captions` would look at."""
    return any(_caption_files(folder))


def _caption_file(source: Path, split: str | None) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    whole, parts = _caption_files(source)
    named = [file for file in parts if _coco_split(file) == split]
    alike = [file for file in parts if _stands_for(split or "val", _coco_split(file))]
    found = named or whole or alike or parts
    if not found:
        raise DataError(f"{source}: no captions here; looked for {_LOOKED_FOR}")
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(source)) for file in found)
        raise DataError(f"{source}: several caption files, name one of them: {names}")
    return found[0]


def _caption_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files that hold a whole set, and those that hold one split."""
    whole = sorted([*folder.glob("dataset_*.json"), *folder.glob("samples.json")])
    parts = sorted([*folder.glob("captions_*.json"), *folder.glob("annotations/captions_*.json")])
    return whole, parts


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error


def _karpathy_entry(where: str, image: dict[str, Any]) -> _Entry:
    captions: list[str] = []
    for n, sentence in enumerate(_list(image.get("sentences", []), f"{where}: `sentences`")):
        if not isinstance(sentence, dict):
            raise DataError(f"{where}: sentence {n} is not an object")
        if sentence.get("imgid", image.get("imgid")) != image.get("imgid"):
            raise DataError(f"{where}: sentence {n} belongs to imgid {sentence['imgid']}")
        captions.append(_text(sentence.get("raw"), f"{where}: sentence {n}: `raw`"))
    folder, split = image.get("filepath", ""), image.get("split")
    return _Entry(
        id=_id(image.get("imgid"), where),
        folder=_text(folder, f"{where}: `filepath`") if folder else "",
        filename=_text(image.get("filename"), f"{where}: `filename`"),
        split=None if split is None else _text(split, f"{where}: `split`"),
        captions=tuple(captions),
    )


def _coco_entries(file: Path, images: list[dict[str, Any]], annotations: Any) -> list[_Entry]:
    captions: dict[int | str | None, list[str]] = {}
    entries = []
    for n, image in enumerate(images):
        where = f"{file}: image {n}"
        if image.get("id") is None:
            raise DataError(f"{where} has no `id`")
        name = _text(image.get("file_name"), f"{where}: `file_name`")
        entries.append(_Entry(_id(image["id"], where), "", name, _coco_split(file), ()))
        captions[entries[-1].id] = []
    unknown = []
    for n, annotation in enumerate(_list(annotations, f"{file}: `annotations`")):
        where = f"{file}: annotation {n}"
        if not isinstance(annotation, dict):
            raise DataError(f"{where} is not an object")
        image_id = _id(annotation.get("image_id"), where)
        text = _text(annotation.get("caption"), f"{where}: `caption`")
        if image_id in captions:
            captions[image_id].append(text)
        else:
            unknown.append(image_id)
    if unknown:
        raise DataError(
            f"{file}: captions for images that are not listed: {len(unknown)}, "
            f"the first for image_id {unknown[0]}"
        )
    ids = (_id(annotation.get("id"), f"{file}: annotation") for annotation in annotations)
    _refuse_repeated(f"{file}: annotation id", (i for i in ids if i is not None))
    return [replace(entry, captions=tuple(captions[entry.id])) for entry in entries]


def _select(
    file: Path, entries: list[_Entry], split: str | None
) -> tuple[list[_Entry], str | None]:
    """The entries of the asked split, and the split's name as the file has it."""
    present = sorted({entry.split for entry in entries if entry.split is not None})
    if split == EVERY_SPLIT:
        split = None
    elif split is None:
        split = "test" if "test" in present else present[0] if len(present) == 1 else None
    elif split not in present:
        alike = [name for name in present if _stands_for(split, name)]
        if len(alike) != 1:
            known = ", ".join(present) or "none"
            raise DataError(f"{file}: no split {split!r}; splits in this file: {known}")
        split = alike[0]
    chosen = [entry for entry in entries if split is None or entry.split == split]
    if not chosen:
        raise DataError(f"{file}: lists no images")
    return chosen, split


def _image_paths(file: Path, entries: list[_Entry]) -> list[Path]:
    home = file.parent.parent if file.parent.name == "annotations" else file.parent
    part = file.stem.rpartition("_")[2]  # flickr8k, val2017
    places = ("images", "photos", part, f"images/{part}", ".")
    fewest: list[Path] | None = None
    for place in places:
        for paths in (
            [home / place / entry.folder / entry.filename for entry in entries],
            [home / place / entry.filename for entry in entries],
        ):
            missing = [path for path in paths if not is_file(path)]
            if not missing:
                return paths
            if fewest is None or len(missing) < len(fewest):
                fewest = missing
    assert fewest is not None
    raise DataError(
        f"{file}: {len(fewest)} of {len(entries)} images are missing, the first is {fewest[0]}; "
        f"looked in {', '.join(places)} of {home}"
    )


def _coco_split(file: Path) -> str | None:
    return file.stem.removeprefix("captions_") if file.stem.startswith("captions_") else None


def _stands_for(short: str, name: str | None) -> bool:
    """Whether `name` is `short` with a year behind it, as `val2017` for `val`."""
    return name is not None and name.rstrip("0123456789") == short


def _refuse_repeated(what: str, values: Iterable[int | str]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{what} {repeated[0]!r} occurs twice ({len(repeated)} such)")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} is not a text or empty")
    return value.strip()


def _id(value: Any, where: str) -> int | str | None:
    if value is None or isinstance(value, int | str):
        return value
    raise DataError(f"{where}: the id {value!r} is neither a number nor a text")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list")
    return value
