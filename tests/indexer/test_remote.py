"""Pictures in S3, over a server on the loopback."""

import importlib.util
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.remote import _system, absolute, is_remote, open_binary, shown
from rwkvsearch.indexer.contents import open_image
from rwkvsearch.indexer.edit import forget
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync

pytest.importorskip("pyarrow", reason="needs pip install 'rwkvsearch[remote]'")
Put = Callable[[str, bytes], None]
TRIP = absolute(Path("s3://photos/trip"))


def _server() -> ModuleType:
    place = Path(__file__).parents[1] / "s3_server.py"
    spec = importlib.util.spec_from_file_location("s3_server", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def buckets() -> dict[str, dict[str, Any]]:
    return {"photos": {}}


@pytest.fixture
def put(buckets: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Give an object its content; the server runs until the test ends."""
    module = _server()
    clock = iter(range(int(time.time()) - 1000, int(time.time())))

    def put(key: str, content: bytes) -> None:
        buckets["photos"][key] = module.Thing(content, next(clock))

    with module.serving(buckets) as address:
        settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "r"}
        for name, value in (settings | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        _system.cache_clear()
        yield put
    _system.cache_clear()


@pytest.fixture
def picture(tmp_path: Path, paint: Callable[[Path, int], Path]) -> Callable[[int], bytes]:
    return lambda seed: paint(tmp_path / "painted.png", seed).read_bytes()


@pytest.fixture
def trip(put: Put, picture: Callable[[int], bytes]) -> None:
    for seed in range(4):
        put(f"trip/{'ab'[seed % 2]}/{seed}.png", picture(seed))
    put("trip/a/0.txt", b"a red boat")
    put("trip/broken.png", b"nothing of the kind")
    put("trip/.hidden/4.png", picture(4))
    put("triplet/5.png", picture(5))


def test_an_address_is_an_absolute_path() -> None:
    path = absolute(Path("s3://bucket/a b/c.jpg"))
    assert path == Path("/s3:/bucket/a b/c.jpg")
    assert is_remote(path) and path.resolve() == path
    assert shown(path) == "s3://bucket/a b/c.jpg"
    assert absolute(path) == path
    for local in ("s3", "/a/s3:/b", "a/b.jpg", "/s3:"):
        assert not is_remote(absolute(Path(local)))
        assert shown(Path(local)) == local


@pytest.mark.usefixtures("trip")
def test_a_prefix_is_indexed_as_a_folder(library: Library, encoder: Any) -> None:
    report = sync(library, [TRIP], encoder)
    assert (report.added, report.errors) == (4, [(TRIP / "broken.png", "not an image")])
    assert report.texts == 1
    paths = [path for found in library.paths_of(range(1, 5)).values() for path in found]
    assert sorted(paths) == [TRIP / name for name in ("a/0.png", "a/2.png", "b/1.png", "b/3.png")]
    assert library.folders() == [TRIP]


@pytest.mark.usefixtures("trip")
def test_nothing_is_read_twice(library: Library, encoder: Any) -> None:
    sync(library, [TRIP], encoder)
    again = sync(library, None, encoder)
    assert (again.unchanged, again.added, encoder.encoded) == (4, 0, 4)


@pytest.mark.usefixtures("trip")
def test_what_changes_or_goes_is_noticed(
    library: Library, encoder: Any, put: Put, picture: Any, buckets: Any
) -> None:
    sync(library, [TRIP], encoder)
    put("trip/b/1.png", picture(9))
    del buckets["photos"]["trip/b/3.png"]
    put("trip/moved.png", picture(3))
    report = sync(library, None, encoder)
    assert (report.added, report.reused, report.removed, report.unchanged) == (1, 1, 1, 2)
    assert encoder.encoded == 5


@pytest.mark.usefixtures("trip")
def test_patterns_leave_out(library: Library, encoder: Any) -> None:
    options = SyncOptions(exclude=["/a/", "1.*"])
    assert sync(library, [TRIP], encoder, options).added == 1


@pytest.mark.usefixtures("trip")
def test_single_objects_and_a_part_of_a_prefix(library: Library, encoder: Any) -> None:
    assert sync(library, [TRIP / "a/0.png"], encoder).added == 1
    assert sync(library, [TRIP / "b"], encoder).added == 2
    assert sync(library, [TRIP], encoder).added == 1
    assert library.folders() == [TRIP]
    assert forget(library, Path("s3://photos/trip/b")) == 2


def test_a_shard_is_read_where_it_lies(
    library: Library, encoder: Any, put: Put, picture: Any
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("0.png", picture(0)), ("0.txt", b"a tree"), ("1.png", picture(1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    put("shards/0.tar", packed.getvalue())
    shard = absolute(Path("s3://photos/shards/0.tar"))
    report = sync(library, [shard], encoder)
    assert (report.added, report.texts) == (2, 1)
    assert library.open_image(1).read() == picture(0)
    assert sync(library, None, encoder).unchanged == 2


@pytest.mark.usefixtures("trip")
def test_an_image_is_opened_again(library: Library, encoder: Any, picture: Any) -> None:
    sync(library, [TRIP / "a/2.png"], encoder)
    for opened in (library.open_image(1), open_image(library, 1)):
        with opened as stream:
            assert stream.read() == picture(2)
    with pytest.raises(FileNotFoundError):
        open_binary(TRIP / "none.png")


@pytest.mark.usefixtures("trip")
def test_a_bucket_that_does_not_answer_keeps_its_rows(
    library: Library, encoder: Any, buckets: Any
) -> None:
    sync(library, [TRIP], encoder)
    photos = buckets.pop("photos")
    report = sync(library, None, encoder)
    assert report.removed == 0
    assert report.unreachable == [(TRIP, "no such bucket")]
    buckets["photos"] = photos
    assert sync(library, None, encoder).unchanged == 4


@pytest.mark.usefixtures("put")
def test_nothing_there_is_one_line(library: Library, encoder: Any) -> None:
    with pytest.raises(DataError, match="no images found"):
        sync(library, [absolute(Path("s3://photos/none"))], encoder)


def test_a_key_that_is_no_path_is_named(
    library: Library, encoder: Any, put: Put, picture: Any
) -> None:
    put("trip/a.png", picture(0))
    put("trip//b.png", picture(1))
    report = sync(library, [TRIP], encoder)
    assert report.added == 1
    assert report.unreachable and "empty name" in report.unreachable[0][1]
