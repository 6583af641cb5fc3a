"""Every filter by itself, on real files; what no filter can be; filters as JSON."""

import dataclasses
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import insert, select

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.images import IMAGE_SUFFIXES
from rwkvsearch.indexer.filters import (
    Box,
    Filters,
    filters_from_json,
    filters_to_json,
    images_passing,
)
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import FileRow, ModelRow, TagRow

ALL = "alps beach copy fiji loose member naïve plain samoa"


def photo(
    path: Path,
    seed: int,
    size: tuple[int, int] = (64, 48),
    taken: str = "",
    camera: tuple[str, str] | None = None,
    at: tuple[float, float] | None = None,
) -> Path:
    """A picture file, in the format of its suffix, that says this of itself by EXIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if camera:
        exif[0x010F], exif[0x0110] = camera
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if at:
        north, east = ((abs(value), 0.0, 0.0) for value in at)
        letters = "N" if at[0] >= 0 else "S", "E" if at[1] >= 0 else "W"
        exif.get_ifd(0x8825).update({1: letters[0], 2: north, 3: letters[1], 4: east})
    colours = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(path, exif=exif)
    return path


def paint_all(root: Path) -> list[Path]:
    """A folder, a single picture and a shard; `copy` has the content of `alps`."""
    album, canon = root / "album", ("Canon", "Canon EOS 5D")
    photo(album / "2019/alps.jpg", 1, (64, 48), "2019:06:30 23:59:59", canon, (46.5, 8.0))
    photo(album / "2019/plain.png", 2, (48, 64))
    photo(album / "2019/lost.jpg", 3, (64, 48), "2019:07:01 00:00:00", canon, (46.5, 8.0))
    photo(album / "2020/fiji.webp", 4, (50, 50), "2019:07:01 00:00:00", ("NIKON", "D5"), (-17, 179))
    photo(album / "2020/far/samoa.jpg", 5, (90, 40), "2020:01:01 00:00:00", None, (-14, -172))
    photo(album / "2020/far/beach.jpg", 6, (64, 48), "2019:12:31 12:30:15", ("Sony", "ILCE-7"))
    photo(album / "2020-extra/naïve.jpg", 7, (30, 20))
    shutil.copy(album / "2019/alps.jpg", album / "2020/copy.jpg")
    (album / "2020/fiji.txt").write_text("palms")
    (album / "2020/copy.txt").write_text("a mountain")
    loose = photo(root / "else/loose.gif", 8, (20, 20))
    inside = photo(root / "else/member.tif", 9, (200, 100)).read_bytes()
    with tarfile.open(root / "pack.tar", "w") as archive:
        for name, content in {"2019/member.tif": inside, "2019/member.txt": b"of a shard"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return [album, loose, root / "pack.tar"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("filters")


@pytest.fixture(scope="module")
def pictures(root: Path, other_encoder: Callable[..., Any]) -> Iterator[Library]:
    with Library.create(root / "library") as library:
        targets = paint_all(root)
        sync(library, targets, other_encoder())
        (root / "album/2019/lost.jpg").unlink()
        sync(library, targets, other_encoder())
        (root / "shortcut").symlink_to(root / "album/2020")
        ids = {name: image_id for image_id, names in stems(library).items() for name in names}
        with library.write() as session:
            model = session.scalars(select(ModelRow.id)).one()
            tags = {"beach": ["Sand", "sea"], "fiji": ["sea"], "alps": ["sandstone"]}
            rows = [
                {"image_id": ids[name], "model": model, "label": label, "confidence": 0.5}
                for name, labels in tags.items()
                for label in labels
            ]
            session.execute(insert(TagRow), rows)
        yield library


def stems(library: Library) -> dict[int, list[str]]:
    with library.read() as session:
        ids = session.scalars(select(FileRow.image_id).distinct()).all()
    paths = library.paths_of([one for one in ids if one is not None])
    return {image_id: [path.stem for path in found] for image_id, found in paths.items()}


def passing(library: Library, filters: Filters) -> str:
    """The names of the files that have the images that pass."""
    with library.read() as session:
        ids = images_passing(session, filters)
    assert ids.dtype == np.int64 and ids.tolist() == sorted(set(ids.tolist()))
    named = stems(library)
    return " ".join(sorted(name for image_id in ids.tolist() for name in named[image_id]))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ALL),
        ({"after": "2019"}, "alps beach copy fiji samoa"),
        ({"after": "2019-07"}, "beach fiji samoa"),
        ({"after": "2019-06-30T23:59:59"}, "alps beach copy fiji samoa"),
        ({"before": "2019"}, "alps beach copy fiji"),
        ({"before": "2019-06"}, "alps copy"),
        ({"before": "2019-06-30"}, "alps copy"),
        ({"before": "2019-06-29"}, ""),
        ({"before": "2019-12-31 12"}, "alps beach copy fiji"),
        ({"before": "2019-12-31T12:30"}, "alps beach copy fiji"),
        ({"before": "2019-12-31T12:30:14"}, "alps copy fiji"),
        ({"after": "2019-07-01", "before": "2019-07-01"}, "fiji"),
        ({"min_width": 64}, "alps beach copy member samoa"),
        ({"min_height": 50}, "fiji member plain"),
        ({"min_megapixels": 0.0036}, "member samoa"),
        ({"min_megapixels": 0.02}, "member"),
        ({"orientation": "landscape"}, "alps beach copy member naïve samoa"),
        ({"orientation": "portrait"}, "plain"),
        ({"orientation": "square"}, "fiji loose"),
        ({"cameras": ("canon",)}, "alps copy"),
        ({"cameras": ("d5", "ilce")}, "beach fiji"),
        ({"formats": ("PNG",)}, "plain"),
        ({"formats": (".jpg",)}, "alps beach copy naïve samoa"),
        ({"formats": ("gif", "tif", "raw")}, "loose member"),
        ({"captioned": True}, "alps copy fiji member"),
        ({"captioned": False}, "beach loose naïve plain samoa"),
        ({"box": Box(45, 7, 47, 9)}, "alps copy"),
        ({"box": Box(-20, 170, -10, -170)}, "fiji samoa"),
        ({"box": Box(-20, -180, -10, -170)}, "samoa"),
        ({"box": Box(-90, -180, 90, 180)}, "alps copy fiji samoa"),
        ({"tags": ("sea",)}, "beach fiji"),
        ({"tags": ("SEA", "sand")}, "beach"),
        ({"tags": ("nothing",)}, ""),
        ({"cameras": ("canon",), "orientation": "portrait"}, ""),
        ({"after": "2019", "captioned": False, "min_width": 64}, "beach samoa"),
    ],
    ids=str,
)
def test_what_an_image_is(pictures: Library, asked: dict[str, Any], expected: str) -> None:
    assert passing(pictures, Filters(**asked)) == expected


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["album"], "alps beach copy fiji naïve plain samoa"),
        (["album/2020"], "alps beach copy fiji samoa"),
        (["album/2020/"], "alps beach copy fiji samoa"),
        (["album/2020/far/../far"], "beach samoa"),
        (["album/2020/far/beach.jpg"], "beach"),
        (["shortcut/far"], "beach samoa"),
        (["pack.tar"], "member"),
        (["pack.tar/2019"], "member"),
        (["else"], "loose"),
        (["else/loose.gif", "album/2020-extra"], "loose naïve"),
        (["."], ALL),
        (["/"], ALL),
    ],
    ids=str,
)
def test_folders(pictures: Library, root: Path, folders: list[str], expected: str) -> None:
    assert passing(pictures, Filters(folders=tuple(root / one for one in folders))) == expected


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["*.png"], "plain"),
        (["2019"], "alps copy member plain"),
        (["2019/**"], "alps copy member plain"),
        (["/2019/*"], "alps copy member plain"),
        (["2019/*.png"], "plain"),
        (["/2019"], "alps copy member plain"),
        (["far/"], "beach samoa"),
        (["far/*"], ""),
        (["**/far/b*"], "beach"),
        (["*/far"], "beach samoa"),
        (["na?ve.jpg"], "naïve"),
        (["[a-c]*.jpg"], "alps beach copy"),
        (["*.jpg", "!2020*/**"], "alps copy"),
        (["2020*/**", "!*.jpg"], "fiji"),
        (["!*.jpg"], "fiji loose member plain"),
        (["!2019", "!*.gif"], "alps beach copy fiji naïve samoa"),
        (["!2020", "copy.*"], "alps copy loose member naïve plain"),
        (["!ROOT/album/2020/*.webp"], "alps beach copy loose member naïve plain samoa"),
        (["*.JPG"], ""),
        (["ROOT/album/2020/**"], "alps beach copy fiji samoa"),
        (["ROOT/album/2020/*.webp"], "fiji"),
        (["ROOT/*/2020/*", "!ROOT/album/2020/far"], "alps copy fiji"),
        (["ROOT/pack.tar/**"], "member"),
        (["ROOT/else/*.gif"], "loose"),
        (["ROOT/shortcut/far/*"], "beach samoa"),
        (["ROOT/shortcut/"], "alps beach copy fiji samoa"),
    ],
    ids=str,
)
def test_globs(pictures: Library, root: Path, globs: list[str], expected: str) -> None:
    found = Filters(globs=tuple(glob.replace("ROOT", str(root)) for glob in globs))
    assert passing(pictures, found) == expected


def test_one_file_has_to_fit_all_that_is_asked_of_paths(pictures: Library, root: Path) -> None:
    folder = (root / "album/2020",)
    assert passing(pictures, Filters(folders=folder, globs=("copy.jpg",))) == "alps copy"
    assert passing(pictures, Filters(folders=folder, globs=("alps.jpg",))) == ""


def test_a_folder_that_nobody_knows(pictures: Library, root: Path) -> None:
    with pytest.raises(QueryError, match=r"albun: nothing below it was indexed; `rwkvsearch stats"):
        passing(pictures, Filters(folders=(root / "albun", root / "album")))


def test_names_in_no_encoding(library: Library, encoder: Any, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    photo(tmp_path / "in" / odd / "one.png", 1)
    photo(tmp_path / "in" / "cafe" / "two.png", 2)
    sync(library, [tmp_path / "in"], encoder)
    for asked in ({"folders": (tmp_path / "in" / odd,)}, {"globs": (odd,)}, {"globs": ("caf?/*",)}):
        assert passing(library, Filters(**asked)).startswith("one")  # type: ignore[arg-type]
    told = json.loads(json.dumps(filters_to_json(Filters(folders=(tmp_path / odd,)))))
    assert filters_from_json(told).folders == (tmp_path / odd,)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"after": "last year"}, "'last year' is no time: write 2019, 2019-06"),
        ({"after": "2019-13"}, "'2019-13' is no time: month must be in 1..12; write"),
        ({"before": "2019-02-29"}, "'2019-02-29' is no time: day is out of range"),
        ({"before": "2019-06-30T24:00"}, "hour must be in 0..23"),
        ({"before": "2019-06-30T12:00Z"}, "is no time"),
        ({"after": "19"}, "is no time"),
        ({"after": "2020", "before": "2019-12"}, "after 2020 and before 2019-12"),
        ({"min_height": 2**63}, "the least height of a picture cannot be 9223372036854775808"),
        ({"min_width": -1}, "the least width of a picture cannot be -1"),
        ({"min_megapixels": float("nan")}, "cannot be nan"),
        ({"orientation": "tall"}, "'tall' is no orientation: one of landscape, portrait, square"),
        ({"formats": ("jpgg",)}, "'jpgg' is no format that is read: one of JPEG, PNG, .*, RAW"),
        ({"cameras": (" ",)}, "cameras: an empty one fits nothing"),
        ({"tags": ("",)}, "tags: an empty one"),
        ({"globs": ("",)}, "globs: an empty one"),
        ({"globs": "*.png"}, "globs: give a tuple, not '\\*.png'"),
        ({"folders": [Path("/a")]}, "folders: give a tuple, not"),
    ],
    ids=str,
)
def test_what_cannot_be(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as caught:
        Filters(**asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("47,8", "'47,8' is no box: write SOUTH,WEST,NORTH,EAST in degrees"),
        ("a,b,c,d", "is no box"),
        ("47,8,46,9", "47,8,46,9: its south lies north of its north"),
        ("-91,0,0,0", "-91,0,0,0: a latitude lies between -90 and 90"),
        ("0,0,0,181", "a longitude lies between -180 and 180"),
        ("0,0,nan,1", "a latitude"),
    ],
)
def test_boxes_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        Box.read(text)


def test_a_box_is_written_as_it_is_read() -> None:
    assert Box.read(" -17.5, 170,-10,-170") == Box(-17.5, 170, -10, -170)
    assert Box.read(str(Box(-17.25, 170, -10, -170))) == Box(-17.25, 170, -10, -170)


@pytest.mark.parametrize("glob", ["#", "/", "!/", "a[b", "!", "a\\", "a\\b\\"])
def test_patterns_that_are_none(library: Library, glob: str) -> None:
    with library.read() as session, pytest.raises(QueryError, match="is no pattern of paths"):
        images_passing(session, Filters(globs=(glob,)))


def test_every_suffix_is_a_format() -> None:
    for suffix in IMAGE_SUFFIXES:
        assert Filters(formats=(suffix,)).format_names


EVERYTHING = Filters(
    folders=(Path("/photos"),),
    globs=("*.png", "!x"),
    after="2019",
    before="2020-06",
    min_width=1,
    min_height=2,
    min_megapixels=0.5,
    orientation="square",
    cameras=("canon",),
    formats=("jpg",),
    captioned=False,
    box=Box(-1, 2.5, 3, 4),
    tags=("sea", "sand"),
)


def test_json_and_back() -> None:
    assert filters_to_json(Filters()) == {} and not Filters()
    assert filters_from_json({}) == Filters()
    told = filters_to_json(EVERYTHING)
    assert told.keys() == {field.name for field in dataclasses.fields(Filters)}
    assert filters_from_json(json.loads(json.dumps(told))) == EVERYTHING
    for name in told:
        one = Filters(**{name: getattr(EVERYTHING, name)})
        assert one and filters_to_json(one) == {name: told[name]}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"colour": "red"}, "'colour' is no filter: known are folders, globs"),
        ({"globs": "*.png"}, r"the filter globs cannot be '\*.png'"),
        ({"tags": [1]}, "the filter tags cannot be"),
        ({"min_width": True}, "the filter min_width cannot be True"),
        ({"min_width": 1.5}, "the filter min_width"),
        ({"captioned": 1}, "the filter captioned"),
        ({"box": [1, 2, 3]}, "the filter box"),
        ({"box": [1, 2, 3, "4"]}, "the filter box"),
        ({"after": 2019}, "the filter after cannot be 2019"),
        ({"after": "2019-13"}, "is no time"),
    ],
)
def test_json_that_is_none(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        filters_from_json(document)
