"""What `--ann` names."""

import sys
from pathlib import Path

import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.cluster.address import ClusterAddress
from rwkvsearch.indexer.cluster.connection import connect
from rwkvsearch.indexer.cluster.kinds import IN_LITE, KINDS, ClusterKind


def test_addresses() -> None:
    plain = ClusterAddress.parse("milvus://host")
    assert (plain.uri, plain.collection, plain.kind) == ("http://host:19530", None, None)
    whole = ClusterAddress.parse("milvus+tls://host:1234/photos?index=ivf_sq8")
    assert whole.uri == "https://host:1234"
    assert whole.collection == "photos" and whole.kind == ClusterKind("IVF_SQ8")
    assert whole.name == "milvus+tls://host:1234/photos"
    assert ClusterAddress.parse("milvus://[::1]:9/c").uri == "http://[::1]:9"
    lite = ClusterAddress.parse("milvus:///a/b.db?index=FLAT")
    assert lite.lite == Path("/a/b.db") and lite.name == "/a/b.db"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("host:19530", "no address of a cluster"),
        ("http://host", "no address of a cluster"),
        ("milvus://host:port", "no address of a cluster"),
        ("milvus:///a/b", "ends in .db"),
        ("milvus://", "ends in .db"),
        ("milvus://host/no-name", "no name of a collection"),
        ("milvus://host/a?kind=HNSW", "only ?index=KIND"),
        ("milvus://host/a?index", "no address of a cluster"),
        ("milvus://host/a?index=KDTREE", "known are HNSW"),
    ],
)
def test_what_is_no_address(text: str, why: str) -> None:
    with pytest.raises(LibraryError) as error:
        ClusterAddress.parse(text)
    assert why in str(error.value) and "\n" not in str(error.value)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(LibraryError) as error:
        ClusterAddress.parse("milvus://root:secret@host")
    assert "MILVUS_TOKEN" in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name: str) -> None:
    kind = ClusterKind.parse(name.lower())
    assert kind.in_lite == (name in IN_LITE)
    assert kind.exact == (name == "FLAT")
    for rows in (1, 10, 1000, 10**8):
        build = kind.build(rows, 640)
        assert 1 <= build.get("nlist", 1) <= 65_536
        assert 640 % build.get("m", 1) == 0
    for search in kind.searches:
        more = kind.effort(search, 500, 8.0)
        assert more.keys() == search.keys() - {"times"}
        assert all(value >= search[one] for one, value in more.items())
        assert all(more[one] >= 500 for one in more.keys() & {"ef", "search_list"})


def test_pymilvus_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(LibraryError, match=r"pip install 'rwkvsearch\[milvus\]'"):
        connect(ClusterAddress.parse("milvus://127.0.0.1:1"))
