"""The map's file: whole or not there, of its model only, and known to stats and doctor."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.maps import CollectionMap, map_path, mapper, read_map, write_map
from rwkvsearch.indexer.sync import sync

from .conftest import FakeEncoder

MADE = CollectionMap(
    np.array([1, 2, 5]),
    np.array([[0, 0], [0.5, 1], [1, 0.25]], np.float32),
    np.array([0, 0, 2], np.uint8),
    2,
    1e9,
    2.5,
)


@pytest.fixture
def model(library: Library, photos: Path, encoder: FakeEncoder) -> ModelInfo:
    sync(library, [photos], encoder)
    return library.models()[0]


def assert_same(found: CollectionMap | None, wanted: CollectionMap = MADE) -> None:
    assert found is not None
    for name, value in vars(wanted).items():
        assert np.array_equal(getattr(found, name), value), name


def test_what_is_written_is_read(library: Library, model: ModelInfo) -> None:
    assert read_map(library, model) is None
    before = library.stats().bytes_on_disk
    write_map(library, model, MADE)
    assert_same(read_map(library, model))
    assert library.stats().bytes_on_disk >= before + map_path(library, model).stat().st_size


def test_of_another_model_is_none(library: Library, model: ModelInfo) -> None:
    write_map(library, model, MADE)
    other = replace(model, weights_sha256="1" * 64)
    assert read_map(library, other) is None
    map_path(library, model).replace(map_path(library, other))
    assert read_map(library, other) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "words"])
def test_damaged_is_none_and_doctor_removes_it(
    library: Library, model: ModelInfo, damage: str
) -> None:
    write_map(library, model, MADE)
    path = map_path(library, model)
    content = bytearray(path.read_bytes())
    at = content.find(np.float32(0.25).tobytes())
    content[at] ^= 1
    changed = {"empty": b"", "cut": content[:-40], "flipped": bytes(content), "words": b"no map"}
    path.write_bytes(changed[damage])
    assert read_map(library, model) is None
    assert not diagnose(library, Checkup()).clean
    assert repair(library, Checkup()).clean
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": MADE.points * 2},
        {"points": MADE.points * np.nan},
        {"ids": MADE.ids[::-1]},
        {"ids": MADE.ids[:2]},
        {"how": MADE.how.astype(np.int64)},
    ],
)
def test_nonsense_is_none(library: Library, model: ModelInfo, wrong: dict[str, object]) -> None:
    write_map(library, model, replace(MADE, **wrong))  # type: ignore[arg-type]
    assert read_map(library, model) is None


def test_one_at_a_time(library: Library) -> None:
    with mapper(library), pytest.raises(LibraryBusy, match="wait until it is done"):
        with mapper(library):
            pass
    with mapper(library):
        pass


def test_cannot_be_written(library: Library, model: ModelInfo) -> None:
    (library.path / "maps").write_text("in the way")
    with pytest.raises(LibraryError, match="cannot be written"):
        write_map(library, model, MADE)
    with pytest.raises(LibraryError, match="cannot write to"):
        with mapper(library):
            pass


WRITER = """
import sys
import numpy as np
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.maps import CollectionMap, mapper, write_map
with Library.open(place_of(sys.argv[1])) as library, mapper(library):
    model, n = library.models()[0], 400_000
    for turn in range(1, 10_000):
        points = np.full((n, 2), 1 / turn, np.float32)
        made = CollectionMap(np.arange(n), points, np.zeros(n, np.uint8), turn, 1.0, 1.0)
        write_map(library, model, made)
        print(turn, flush=True)
"""


def test_killed_while_writing(library: Library, model: ModelInfo) -> None:
    for pause in (0.0, 0.011, 0.023, 0.037):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(library.place)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout and process.stdout.readline() == "1\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            written = 1 + len(process.stdout.read().splitlines())
        found = read_map(library, model)
        assert found is not None and found.made_of in (written, written + 1)
        assert np.unique(found.points).tolist() == [np.float32(1 / found.made_of)]
        with mapper(library):  # the lock went with the process
            pass
    assert repair(library, Checkup()).clean
    assert sorted(path.name for path in map_path(library, model).parent.iterdir()) == sorted(
        [map_path(library, model).name, "lock"]
    )
