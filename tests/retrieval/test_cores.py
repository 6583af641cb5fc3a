"""Parts are computed one a core, in order, and what threads set stays with them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rwkvsearch.retrieval import cores
from rwkvsearch.retrieval.cores import map_on_cores


@pytest.fixture(autouse=True)
def three_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_every_part_in_order_by_threads_of_one_core() -> None:
    def work(part: int) -> tuple[int, int, str]:
        return part, torch.get_num_threads(), threading.current_thread().name

    parts, counts, names = zip(*map_on_cores(work, range(20)), strict=True)
    assert parts == tuple(range(20)) and set(counts) == {1}
    assert all(name.startswith("core") for name in names)


def test_the_threads_of_others_keep_their_number() -> None:
    map_on_cores(abs, range(9))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3
    assert torch.get_num_threads() == 3


def test_first_use_from_several_threads() -> None:
    """While a pool starts, a new thread would take over the single core of its threads."""
    cores._pool.cache_clear()
    torch.set_num_threads(4)
    start = threading.Barrier(8)

    def first(_: int) -> tuple[int, str]:
        start.wait()
        names = map_on_cores(lambda _: threading.current_thread().name, range(8))
        return torch.get_num_threads(), names[0].split("_")[0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(first, range(8)))
    assert {count for count, _ in found} == {4}
    assert len({name for _, name in found}) == 1
    assert cores._pool.cache_info().misses == 1


def test_one_part_stays_here() -> None:
    here = threading.current_thread().name
    assert map_on_cores(lambda _: threading.current_thread().name, [0]) == [here]
    assert map_on_cores(abs, []) == []


def test_a_failure_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        map_on_cores(lambda part: 1 // part, [1, 0, 2])
