"""What the name of a caption file says: the split, and what the set is called."""

import re
from pathlib import Path

_SPLIT = re.compile(
    r"(?:^|[^a-z])(train|test|val|dev|restval)(?:images)?(?:\d*(?=[^a-z0-9]|$))", re.IGNORECASE
)
_NO_NAME = re.compile(
    r"(?:^|[_.-])(train|test|val|dev|restval|karpathy|captions?|annotations?|results?|token|\d+)"
    r"(?=[_.-]|$)",
    re.IGNORECASE,
)
_KNOWN = {"results_20130124": "flickr30k", "flickr8k.token": "flickr8k"}
_UNNAMED = ("annotations", "images", "shards")


def split_of(stem: str) -> str | None:
    """`test` for `flickr30k_test`, `Flickr_8k.testImages` and `coco-test-003`; None without one."""
    found = _SPLIT.search(stem)
    return found[1].lower() if found else None


def coco_split(file: Path) -> str | None:
    """`val2017` for `captions_val2017.json`."""
    return file.stem.removeprefix("captions_") if file.stem.startswith("captions_") else None


def stands_for(short: str, name: str | None) -> bool:
    """Whether `name` is `short` with a year behind it, as `val2017` for `val`, or `dev` for it."""
    return name is not None and ("val" if name == "dev" else name.rstrip("0123456789")) == short


def title_of(file: Path) -> str:
    """What a set without a name is called: its file without split and such, else its folder."""
    stem = file.name
    while (suffix := Path(stem).suffix.lower()) in (".json", ".txt", ".csv", ".tsv", ".tar"):
        stem = stem[: -len(suffix)]
    if known := _KNOWN.get(stem.lower().removesuffix(".token")) or _KNOWN.get(stem.lower()):
        return known
    folder = file.parent.parent if file.parent.name.lower() in _UNNAMED else file.parent
    return _NO_NAME.sub("", stem).strip("_.-") or folder.name or stem
