import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.room import Room, default_room
from rwkvsearch.indexer.sync import SyncOptions, sync


class Watched(Room):
    """Counts how many bytes are taken at most."""

    most = 0

    def _fits(self, number: int) -> bool:
        fits = super()._fits(number)
        if fits:
            self.most = max(self.most, self._used + number)
        return fits


def run(room: Room, claims: list[list[int]]) -> None:
    def work(numbers: list[int]) -> None:
        with room.claim() as take:
            for number in numbers:
                take(number)
                time.sleep(0.005)

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(work, numbers) for numbers in claims]:
            job.result(timeout=20)


def test_claims_stay_below_the_size() -> None:
    room = Watched(100)
    run(room, [[30]] * 24)
    assert 60 <= room.most <= 90
    assert (room._used, room._running) == (0, 0)


def test_more_than_everything_is_granted_alone() -> None:
    room = Watched(100)
    run(room, [[1000]] * 6)
    assert room.most == 1000


def test_nobody_waits_for_ever() -> None:
    """Everyone holds a part of the room and wants more than is left of it."""
    room = Watched(100)
    run(room, [[40, 90]] * 12)
    assert room.most < 3 * 130
    assert (room._used, room._running) == (0, 0)


def test_all_is_free_after_an_error() -> None:
    room = Room(10)
    with pytest.raises(RuntimeError), room.claim() as take:
        take(10)
        raise RuntimeError
    with room.claim() as take:
        take(10)
    assert 256 << 20 <= default_room() <= 2 << 30


def test_large_pictures_are_decoded_one_at_a_time(
    tmp_path: Path, library: Library, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for seed in range(6):
        Image.new("RGB", (1000, 1000), (seed, 0, 0)).save(folder / f"{seed}.png")
    at_once, most, lock = [0], [0], threading.Lock()
    preprocess = encoder.preprocess

    def slow(image: Any) -> Any:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return preprocess(image)

    monkeypatch.setattr(encoder, "preprocess", slow)
    monkeypatch.setattr("rwkvsearch.indexer.pipeline.default_room", lambda: 9_000_000)
    sync(library, [folder], encoder, SyncOptions(workers=4))
    assert most[0] == 1
