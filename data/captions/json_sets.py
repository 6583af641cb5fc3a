"""Caption sets in one JSON document: of Karpathy, of COCO, and lists as ALBEF and BLIP take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwkvsearch.data.captions.naming import coco_split, split_of, title_of
from rwkvsearch.data.captions.sets import (
    Entry,
    Gathered,
    Listing,
    id_of,
    list_of,
    refuse_repeated,
    text_of,
)
from rwkvsearch.data.errors import DataError

_UNKNOWN = (
    "neither Karpathy's nor COCO's layout (an object with a list of `images`), "
    "nor that of ALBEF (a list of objects with `image` and `caption`)"
)


def read_json(file: Path) -> Listing:
    """The images of a document in one of the three layouts."""
    document = _document(file)
    if isinstance(document, list):
        return _albef(file, document)
    listed = document.get("images") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(image, dict) for image in listed):
        raise DataError(f"{file}: {_UNKNOWN}")
    title = str(document.get("dataset") or file.stem.removeprefix("dataset_"))
    if "annotations" in document:
        return Listing(title, _coco(file, listed, document["annotations"]))
    places = enumerate(listed)
    return Listing(title, [_karpathy(f"{file}: image {n}", image) for n, image in places])


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error


def _karpathy(where: str, image: dict[str, Any]) -> Entry:
    captions: list[str] = []
    for n, sentence in enumerate(list_of(image.get("sentences", []), f"{where}: `sentences`")):
        if not isinstance(sentence, dict):
            raise DataError(f"{where}: sentence {n} is not an object")
        if sentence.get("imgid", image.get("imgid")) != image.get("imgid"):
            raise DataError(f"{where}: sentence {n} belongs to imgid {sentence['imgid']}")
        captions.append(text_of(sentence.get("raw"), f"{where}: sentence {n}: `raw`"))
    name = text_of(image.get("filename"), f"{where}: `filename`")
    folder, split = image.get("filepath", ""), image.get("split")
    return Entry(
        name=f"{text_of(folder, f'{where}: `filepath`')}/{name}" if folder else name,
        captions=tuple(captions),
        split=None if split is None else text_of(split, f"{where}: `split`"),
        id=id_of(image.get("imgid"), where),
    )


def _coco(file: Path, images: list[dict[str, Any]], annotations: Any) -> list[Entry]:
    captions: dict[int | str | None, list[str]] = {}
    entries = []
    for n, image in enumerate(images):
        where = f"{file}: image {n}"
        if image.get("id") is None:
            raise DataError(f"{where} has no `id`")
        name = text_of(image.get("file_name"), f"{where}: `file_name`")
        entries.append(Entry(name, (), coco_split(file), id_of(image["id"], where)))
        captions[entries[-1].id] = []
    unknown = []
    for n, annotation in enumerate(list_of(annotations, f"{file}: `annotations`")):
        where = f"{file}: annotation {n}"
        if not isinstance(annotation, dict):
            raise DataError(f"{where} is not an object")
        image_id = id_of(annotation.get("image_id"), where)
        text = text_of(annotation.get("caption"), f"{where}: `caption`")
        if image_id in captions:
            captions[image_id].append(text)
        else:
            unknown.append(image_id)
    if unknown:
        raise DataError(
            f"{file}: captions for images that are not listed: {len(unknown)}, "
            f"the first for image_id {unknown[0]}"
        )
    ids = (id_of(annotation.get("id"), f"{file}: annotation") for annotation in annotations)
    refuse_repeated(f"{file}: annotation id", (i for i in ids if i is not None))
    return [replace(entry, captions=tuple(captions[entry.id])) for entry in entries]


def _albef(file: Path, document: list[Any]) -> Listing:
    """Test files have one object an image with its captions, training files one a caption."""
    split = split_of(file.stem)
    if not all(isinstance(one, dict) and "image" in one for one in document):
        raise DataError(f"{file}: {_UNKNOWN}")
    if not any(isinstance(one.get("caption"), str) for one in document):
        return Listing(title_of(file), [_one_image(file, split, *o) for o in enumerate(document)])
    gathered = Gathered()
    for n, one in enumerate(document):
        where = f"{file}: object {n}"
        name = text_of(one["image"], f"{where}: `image`")
        gathered.add(name, _captions(one, where), split, where)
    return Listing(title_of(file), gathered.entries())


def _one_image(file: Path, split: str | None, n: int, one: dict[str, Any]) -> Entry:
    where = f"{file}: object {n}"
    return Entry(text_of(one["image"], f"{where}: `image`"), tuple(_captions(one, where)), split)


def _captions(one: dict[str, Any], where: str) -> Sequence[str]:
    found = one.get("caption", [])
    listed = [found] if isinstance(found, str) else list_of(found, f"{where}: `caption`")
    return [text_of(text, f"{where}: `caption`") for text in listed]
