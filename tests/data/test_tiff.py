"""The bounded reader of TIFF directories."""

import io
import struct
from types import ModuleType

import pytest

from rwkvsearch.data.images import read_picture
from rwkvsearch.data.tiff import Entry, open_tiff


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_of_each_type(order: str, build: ModuleType) -> None:
    rows = [(1, 1, [7, 8]), (2, 2, b"text\0"), (3, 3, [1, 2, 3]), (4, 4, [70000])]
    rows += [(5, 5, [(1, 2), (3, 0)]), (10, 10, [(-1, 4)])]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    data = b"before" + magic + struct.pack(order + "L", 8) + build.directory(rows, 8, order)
    tiff = open_tiff(io.BytesIO(data), 6)
    assert tiff is not None
    found = tiff.directory(tiff.first)
    assert tiff.value(found[2]) == b"text\0" and tiff.value(found[2], 2) == b"te"
    assert tiff.numbers(found[1]) == [7, 8] and tiff.numbers(found[3], 2) == [1, 2]
    assert tiff.number(found[4]) == 70000 and tiff.numbers(found[10]) == [-0.25]
    half, nothing = tiff.numbers(found[5])
    assert half == 0.5 and nothing != nothing
    assert tiff.number(None) == 0 and tiff.numbers(found[2]) == []


def test_what_is_no_tiff() -> None:
    for data in (b"", b"II", b"II*\0", b"MM*\0\0\0\0\x08", b"PK\x03\x04" * 9):
        assert open_tiff(io.BytesIO(data)) is None


def test_offsets_that_lead_nowhere(build: ModuleType) -> None:
    data = b"II*\0\xff\xff\xff\x7f" + bytes(20)
    tiff = open_tiff(io.BytesIO(data))
    assert tiff is not None
    assert tiff.directory(tiff.first) == {} and list(tiff.directories()) == []
    assert tiff.value(Entry(2, 1 << 31, 1 << 31)) == b""


def test_directories_in_a_circle_end(build: ModuleType) -> None:
    rows = [(256, 4, [1])]
    first = build.directory(rows, 8, link=8 + 18)
    data = b"II*\0\x08\0\0\0" + first + build.directory(rows, 8 + 18, link=8)
    tiff = open_tiff(io.BytesIO(data))
    assert tiff is not None and list(tiff.directories()) == [8, 26]


def test_big_tiff(build: ModuleType) -> None:
    options = {"big_tiff": True, "tiffinfo": {270: "a large scan"}}
    data = build.encoded(
        build.scene(), "TIFF", save_all=True, append_images=[build.scene()], **options
    )
    assert data[2] == 43
    picture = read_picture(io.BytesIO(data))
    assert picture.frames == 2 and picture.metadata.texts == (("exif", "a large scan"),)
