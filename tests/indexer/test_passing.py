"""All filters together, and the search among what passes, against plain Python and brute force."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec
from sqlalchemy import insert, select, update

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer import passing
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import (
    MODEL,
    PREPROCESSING,
    Synthetic,
    enter_images,
    fill,
    root_of,
)
from rwkvsearch.indexer.filters import Box, Filters, images_passing
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.search import BRUTE_FORCE, SearchIndex
from rwkvsearch.indexer.tables import (
    CaptionRow,
    FileRow,
    ImageRow,
    ModelRow,
    RootRow,
    TagRow,
    TextRow,
)

DIM, ROWS, PUBLISHED = 12, 3000, 2700
ROOTS = [Path("/"), Path("/photos/mine"), Path("/photos/pack.tar")]
YEARS, CAMERAS, LABELS = range(2017, 2022), ["Canon EOS", "NIKON D5", "Olympus"], ["cat", "sea"]
SIDES, FORMATS = [10, 640, 1000, 4000], ["JPEG", "PNG", "HEIF"]
FOLDERS = ["a", "a/b", "ab", "2019"]


@dataclass
class Picture:
    """What the library was told of an image, and its files: root, path, whether it is there."""

    image_id: int
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    files: list[tuple[Path, str, bool]]
    captions: list[int | None] = field(default_factory=list)
    """By the place of the file they stand beside, None for those of the content."""
    labels: list[str] = field(default_factory=list)


def invent(image_id: int, rng: np.random.Generator) -> Picture:
    def one(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    moment = datetime(one(YEARS), 1, 1) + timedelta(seconds=int(rng.integers(365 * 86400)))
    if rng.random() < 0.1:
        moment = moment.replace(hour=0, minute=0, second=0)
    files = [
        (one(ROOTS), f"{one(FOLDERS)}/{image_id}-{at}.{one(['jpg', 'png'])}", rng.random() < 0.85)
        for at in range(int(rng.integers(1, 4)))
    ]
    placed = rng.random() < 0.5
    return Picture(
        image_id,
        one(SIDES),
        one(SIDES),
        one(FORMATS),
        moment.isoformat() if rng.random() < 0.8 else None,
        one(CAMERAS) if rng.random() < 0.8 else None,
        float(rng.integers(-90, 91)) if placed else None,
        float(rng.integers(-18, 19) * 10) if placed else None,
        files,
        [one([None, *range(len(files))]) for _ in range(int(rng.integers(0, 3)))],
        [label for label in LABELS if rng.random() < 0.3],
    )


def tell(library: Library, pictures: list[Picture]) -> None:
    """Write it down in the place of what `fill` has made up."""
    facts = ("width", "height", "format", "taken_at", "camera", "latitude", "longitude")
    root = root_of(library)
    images, files, more, captions, tags = [], [], [], [], []
    with library.write() as session:
        model = session.scalars(select(ModelRow.id)).one()
        for picture in pictures:
            ids = [picture.image_id + ROWS * at for at in range(3)]
            images.append({"id": ids[0], **{name: getattr(picture, name) for name in facts}})
            for at, (place, path, there) in enumerate(picture.files):
                where = {"root_id": root + ROOTS.index(place), "path": path}
                row = {"id": ids[at], "gone_at": None if there else 1.0, **where}
                stat = {"image_id": ids[0], "size": 1, "mtime_ns": 0, "inode": 0}
                files.append(row) if at == 0 else more.append(row | stat)
            for beside in picture.captions:
                file_id = None if beside is None else ids[beside]
                said = {"image_id": ids[0], "file_id": file_id, "text_id": 1, "source": "x"}
                captions.append(said)
            for label in picture.labels:
                tag = {"image_id": ids[0], "model": model, "label": label, "confidence": 0.5}
                tags.append(tag)
        session.execute(update(RootRow), [{"id": root, "path": ROOTS[0], "kind": "loose"}])
        others = [{"id": root + at, "path": path} for at, path in enumerate(ROOTS) if at]
        session.execute(insert(RootRow), others)
        session.execute(insert(TextRow), [{"id": 1, "text": "words"}])
        session.execute(update(ImageRow), images)
        session.execute(update(FileRow), files)
        for table, rows in ((FileRow, more), (CaptionRow, captions), (TagRow, tags)):
            session.execute(insert(table), rows)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Library, list[Picture]]]:
    """A library with a published file, rows that are newer, and tombstones in both."""
    rng = np.random.default_rng(0)
    pictures = [invent(image_id, rng) for image_id in range(1, ROWS + 1)]
    with Library.create(tmp_path_factory.mktemp("passing") / "library") as library:
        source = Synthetic(DIM, clusters=60)
        model = fill(library, source, PUBLISHED)
        publish(library, model)
        newer = source.images(ROWS - PUBLISHED, PUBLISHED)
        enter_images(library, root_of(library), model.key, PUBLISHED + 1, newer)
        tell(library, pictures)
        yield library, pictures


def fits(picture: Picture, asked: Filters) -> bool:
    """The filters in plain Python; `asked` is about no time finer than a day."""
    live = [(root, path) for root, path, there in picture.files if there]
    said = any(at is None or picture.files[at][2] for at in picture.captions)
    return (
        any(_file_fits(root, path, asked) for root, path in live)
        and _taken(picture, asked)
        and _in_box(picture, asked.box)
        and picture.width >= asked.min_width
        and picture.height >= asked.min_height
        and picture.width * picture.height / 1e6 >= asked.min_megapixels
        and asked.orientation in (None, _orientation(picture))
        and (not asked.cameras or any(c in (picture.camera or "").lower() for c in asked.cameras))
        and (not asked.formats or picture.format in asked.formats)
        and asked.captioned in (None, said)
        and {*asked.tags} <= {*picture.labels}
    )


def _file_fits(root: Path, path: str, asked: Filters) -> bool:
    folders = not asked.folders or any((root / path).is_relative_to(f) for f in asked.folders)
    if not folders or not asked.globs:
        return folders
    left_out = asked.globs[0].startswith("!")
    start, lines = "" if root == Path("/") else str(root), []
    for glob in asked.globs:
        taken, place = glob.startswith("!"), glob.removeprefix("!")
        sign = "!" if taken != left_out else ""
        if place.startswith("/"):
            lines += [sign + place, f"{sign}{start}{place}"]
        else:
            lines.append(f"{sign}{start}/{'' if '/' in place.rstrip('/') else '**/'}{place}")
    return spec(tuple(lines)).match_file(str(root / path).removeprefix("/")) != left_out


@cache
def spec(globs: tuple[str, ...]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(globs)


def _taken(picture: Picture, asked: Filters) -> bool:
    if picture.taken_at is None:
        return asked.after is None and asked.before is None
    moment = datetime.fromisoformat(picture.taken_at)
    first, _ = _period(asked.after or "0001")
    _, end = _period(asked.before or "9000")
    return first <= moment < end


def _period(text: str) -> tuple[datetime, datetime]:
    parts = [int(part) for part in text.split("-")]
    first = datetime(*(parts + [1, 1])[:3])  # type: ignore[arg-type]
    if len(parts) == 1:
        return first, first.replace(year=first.year + 1)
    if len(parts) == 2:
        return first, (first + timedelta(days=31)).replace(day=1)
    return first, first + timedelta(days=1)


def _in_box(picture: Picture, box: Box | None) -> bool:
    if box is None:
        return True
    if picture.latitude is None or picture.longitude is None:
        return False
    width = (box.east - box.west) % 360 or (0 if box.east == box.west else 360)
    eastward = (picture.longitude - box.west) % 360 <= width
    return box.south <= picture.latitude <= box.north and eastward


def _orientation(picture: Picture) -> str:
    if picture.width == picture.height:
        return "square"
    return "landscape" if picture.width > picture.height else "portrait"


def some(values: st.SearchStrategy[Any], rest: Any) -> st.SearchStrategy[Any]:
    """Mostly not asked for: all filters at once let nothing through."""
    return st.one_of(st.just(rest), st.just(rest), st.just(rest), values)


def several(values: list[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


TIMES = st.sampled_from(["2018", "2019", "2019-02", "2019-12", "2020-06", "2020-02-29"])
PLACES = [Path(p) for p in ("/photos", "/photos/mine/a", "/photos/pack.tar", "/a", "/ab", "/2019")]
GLOBS = [
    "*.png",
    "a/**",
    "a",
    "2019/*.jpg",
    "b/",
    "*1?-*",
    "!b",
    "!*1.jpg",
    "/a/b/*",
    "/photos/*/a/*",
    "/2019/**",
]
BOXES = st.builds(
    lambda south, north, west, east: Box(min(south, north), west, max(south, north), east),
    *[st.integers(-90, 90)] * 2,
    *[st.integers(-18, 18).map(lambda tens: tens * 10)] * 2,
)
FILTERS = st.fixed_dictionaries(
    {
        "folders": some(several(PLACES), ()),
        "globs": some(several(GLOBS), ()),
        "after": some(TIMES, None),
        "before": some(TIMES, None),
        "min_width": some(st.sampled_from(SIDES), 0),
        "min_height": some(st.sampled_from(SIDES), 0),
        "min_megapixels": some(st.sampled_from([0.0001, 0.64, 1, 4, 16]), 0.0),
        "orientation": some(st.sampled_from(["landscape", "portrait", "square"]), None),
        "cameras": some(several(["canon", "nikon", "o"]), ()),
        "formats": some(several(FORMATS), ()),
        "captioned": some(st.booleans(), None),
        "box": some(BOXES, None),
        "tags": some(several(LABELS), ()),
    }
)


def check(library: Library, pictures: list[Picture], asked: Filters, k: int) -> int:
    """Ids, then hits and scores; how many pass."""
    with library.read() as session:
        among = images_passing(session, asked)
    expected = [picture.image_id for picture in pictures if fits(picture, asked)]
    assert among.tolist() == expected
    queries = Synthetic(DIM, clusters=60).texts(2, part=7)
    scores, ids = SearchIndex.open(library, MODEL, PREPROCESSING).search(queries, k, among=among)
    assert ids.shape == (2, min(k, len(expected)))
    known, embeddings = library.embeddings(MODEL, PREPROCESSING)
    here = np.isin(known, expected)
    for row, query in enumerate(queries):
        exact = rescore(query, embeddings[here])
        order = np.lexsort((known[here], -exact))[:k]
        np.testing.assert_array_equal(ids[row], known[here][order])
        np.testing.assert_array_equal(scores[row], exact[order])
    return len(expected)


@given(FILTERS, st.sampled_from([1, 10, 300]), st.sampled_from([0, passing.FEW, 10**9]))
@settings(max_examples=40)
def test_the_same_as_brute_force(
    told: tuple[Library, list[Picture]], values: dict[str, Any], k: int, few: int
) -> None:
    try:
        asked = Filters(**values)
    except QueryError as error:  # taken after what it is taken before
        assert "nothing was taken after" in str(error)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passing, "FEW", few)
        check(*told, asked, k)


@pytest.mark.parametrize(
    "asked",
    [
        Filters(after="2018"),
        Filters(captioned=False),
        Filters(globs=("*.png", "a/**")),
        Filters(folders=(Path("/photos"),), globs=("*1?-*", "*.png")),
        Filters(formats=("JPEG", "HEIF")),
    ],
    ids=str,
)
def test_more_than_brute_force_takes(told: tuple[Library, list[Picture]], asked: Filters) -> None:
    assert SearchIndex.open(told[0], MODEL, PREPROCESSING).kind is not None
    assert check(*told, asked, 10) > BRUTE_FORCE
