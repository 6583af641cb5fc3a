"""Bad files by reason, a page at a time."""

import os
from pathlib import Path

import pytest

from rwkvsearch.indexer.bad_files import bad_files
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.sync import sync

ODD = os.fsdecode(b"caf\xe9 \n.jpg")


@pytest.fixture
def bad(library: Library, encoder: ImageEncoder, photos: Path) -> Path:
    for number in range(7):
        (photos / f"empty-{number}.jpg").write_bytes(b"")
    (photos / ODD).write_bytes(b"no picture")
    (photos / "a" / "cut.png").write_bytes((photos / "a" / "0.png").read_bytes()[:60])
    sync(library, [photos], encoder)
    return photos


def test_they_are_those_of_the_stats(library: Library, bad: Path) -> None:
    reasons = library.stats().errors_by_reason
    assert reasons["empty file"] == 7 and len(reasons) == 3
    for reason, number in reasons.items():
        found, total = bad_files(library, reason)
        assert len(found) == total == number
        assert {file.reason for file in found} == {reason}
    found, total = bad_files(library)
    assert total == 9 and {file.path for file in found} >= {bad / ODD, bad / "a" / "cut.png"}
    assert {file.bytes for file in found} == {0, 10, 60}


def test_pages_are_parts_of_one_list(library: Library, bad: Path) -> None:
    whole, _ = bad_files(library)
    pages = [bad_files(library, offset=start, limit=2) for start in range(0, 12, 2)]
    assert [file for page, _ in pages for file in page] == whole
    assert {total for _, total in pages} == {9}


def test_a_file_that_is_good_or_gone_is_none_of_them(
    library: Library, bad: Path, encoder: ImageEncoder
) -> None:
    (bad / ODD).unlink()
    (bad / "a" / "cut.png").write_bytes((bad / "a" / "0.png").read_bytes())
    sync(library, None, encoder)
    found, total = bad_files(library)
    assert total == 7 and {file.reason for file in found} == {"empty file"}
    assert bad_files(library, "no such reason") == ([], 0)
