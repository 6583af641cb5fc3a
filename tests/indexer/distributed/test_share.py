"""What is asked of a cluster before anything starts there."""

import socket

import pytest

from rwkvsearch.data.errors import ClusterError
from rwkvsearch.indexer.distributed.cluster import Share, Taken, check, is_address, taken


@pytest.mark.parametrize(
    ("has", "share", "expected"),
    [
        ({"CPU": 8}, Share(), Taken(7, 1, 0)),
        ({"CPU": 8}, Share(actors=3), Taken(3, 1, 0)),
        ({"CPU": 8}, Share(cpus=3), Taken(2, 3, 0)),
        ({"CPU": 8, "GPU": 2}, Share(), Taken(2, 1, 1)),
        ({"CPU": 8, "GPU": 2}, Share(gpus=0.5), Taken(4, 1, 0.5)),
        ({"CPU": 8, "GPU": 1}, Share(gpus=0.1), Taken(7, 1, 0.1)),
        ({"CPU": 3, "GPU": 4}, Share(), Taken(2, 1, 1)),
        ({"CPU": 8, "GPU": 2}, Share(gpus=0), Taken(7, 1, 0)),
    ],
)
def test_as_many_as_fit(has: dict[str, float], share: Share, expected: Taken) -> None:
    assert taken(has, has, share) == expected


@pytest.mark.parametrize(
    ("free", "share", "needs"),
    [
        ({"CPU": 1}, Share(), "2 free CPUs"),
        ({}, Share(), "2 free CPUs"),
        ({"CPU": 4}, Share(actors=4), "5 free CPUs"),
        ({"CPU": 4}, Share(actors=2, cpus=2), "5 free CPUs"),
        ({"CPU": 4}, Share(gpus=1), "1 free GPUs"),
        ({"CPU": 8, "GPU": 1}, Share(actors=3, gpus=0.5), "1.5 free GPUs"),
    ],
)
def test_too_little_is_one_line(free: dict[str, float], share: Share, needs: str) -> None:
    has = {"CPU": 8.0, "GPU": 1.0}
    with pytest.raises(ClusterError, match=needs) as raised:
        taken(has, free, share)
    assert "\n" not in str(raised.value)


def test_addresses() -> None:
    for text in ("local", "auto", "10.0.0.1:6379", "head.example:6379", "[::1]:6379", "ray://a:1"):
        assert is_address(text)
    for text in ("photos", "./auto", "s3://bucket/key", "C:", "a:b", ""):
        assert not is_address(text)


def test_a_head_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken_port.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no Ray head answers there"):
            check(address)
    with pytest.raises(ClusterError, match="start the command on a node"):
        check("ray://head:10001")
    with pytest.raises(ClusterError, match="not an address"):
        check("head")
