import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.ui.export import How, export_hits

from .conftest import Run, make_picture

LONG = "l" * 251 + ".png"


@pytest.fixture
def hits(indexed: Path, home: Path, run: Run) -> list[Hit]:
    """Of two plain pictures, one with a long name, one with an odd name and one in a shard."""
    odd = os.fsdecode(b"new\nline \xff.png")
    make_picture(indexed / LONG, 90)
    make_picture(indexed / odd, 92)
    shard = indexed.parent / "more.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(make_picture(indexed.parent / "member.png", 91), "in/member.png")
    for number, path in enumerate([*indexed.iterdir(), shard]):
        os.utime(path, ns=(10**18 + number, 10**18 + 7 * number))
    assert run("index", indexed, shard).code == 0
    with Library.open(home) as library:
        paths = library.paths_of(range(1, 20))
    ids = {path: image_id for image_id, found in paths.items() for path in found}
    chosen = [indexed / "5.png", indexed / "0.png", indexed / LONG, indexed / odd]
    chosen.append(shard / "in/member.png")
    return [Hit(rank, ids[p], (p,), 0.5) for rank, p in enumerate(chosen, 1)]


@pytest.mark.parametrize("how", ["copy", "symlink"])
def test_ranks_names_times_and_content(
    hits: list[Hit], home: Path, tmp_path: Path, how: How
) -> None:
    done: list[int] = []
    with Library.open(home) as library:
        exported = export_hits(hits, library, tmp_path / "new" / "out", how, done.append)
    assert exported.extracted == 1 and not exported.faults and sum(done) == len(hits)
    assert sorted((tmp_path / "new" / "out").iterdir()) == exported.files
    names = [path.name for path in exported.files]
    assert names[:2] == ["001 5.png", "002 0.png"] and names[4] == "005 member.png"
    assert names[2].startswith("003 lll") and names[2].endswith("l.png")
    assert names[3] == "004 " + hits[3].path.name
    for hit, file in zip(hits, exported.files, strict=True):
        member = hit is hits[4]
        source = tmp_path / "member.png" if member else hit.path
        assert file.read_bytes() == source.read_bytes()
        assert file.is_symlink() == (how == "symlink" and not member)
        origin = tmp_path / "more.tar" if member else hit.path
        assert file.stat().st_mtime_ns == origin.stat().st_mtime_ns


def test_nothing_is_overwritten(hits: list[Hit], home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Library.open(home) as library:
        assert len(export_hits(hits, library, folder, "copy").files) == len(hits)
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        with pytest.raises(RwkvSearchError, match="is not empty: name a new folder"):
            export_hits(hits[:1], library, folder, "symlink")
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        with pytest.raises(RwkvSearchError, match="is no folder"):
            export_hits(hits, library, hits[0].path, "copy")
        blocked = hits[0].path / "below"
        with pytest.raises(RwkvSearchError, match="cannot export to .*: Not a directory"):
            export_hits(hits, library, blocked, "copy")


def test_what_is_gone_is_named(hits: list[Hit], home: Path, tmp_path: Path) -> None:
    hits[1].path.unlink()
    with Library.open(home) as library:
        exported = export_hits(hits, library, tmp_path / "out", "copy")
        assert len(exported.files) == len(hits) - 1
        assert "0.png" in exported.faults[0] and "cannot be read now" in exported.faults[0]
        assert export_hits([], library, tmp_path / "none", "copy").files == []
    assert not (tmp_path / "none").exists()


def test_an_error_leaves_nothing(hits: list[Hit], home: Path, tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with Library.open(home) as library:
        with pytest.raises(KeyboardInterrupt):
            export_hits(hits, library, tmp_path / "out", "copy", stop)
    assert not (tmp_path / "out").exists()


def test_a_kill_leaves_no_half_files(hits: list[Hit], home: Path, tmp_path: Path) -> None:
    """Killed in the middle of a copy, which waits for the rest of a pipe."""
    folder, pipe = tmp_path / "out", tmp_path / "slow"
    os.mkfifo(pipe)
    script = f"""
import sys
from pathlib import Path
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.query import Hit
from rwkvsearch.ui import export
export.is_file = Path.exists  # the pipe is taken for a file
first = Hit(1, {hits[0].image_id}, (Path({str(hits[0].path)!r}),), 0.5)
slow = Hit(2, {hits[1].image_id}, (Path({str(pipe)!r}),), 0.5)
with Library.open(Path({str(home)!r})) as library:
    export.export_hits([first, slow], library, Path({str(folder)!r}), "copy")
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    with pipe.open("wb") as stream:  # waits until it is read
        stream.write(b"half of")
        stream.flush()
        unfinished = folder / ".rwkvsearch-export"
        end = time.monotonic() + 30
        while len(list(unfinished.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert [path.name for path in folder.iterdir()] == [unfinished.name]
    with Library.open(home) as library:
        exported = export_hits(hits, library, folder, "copy")
    assert sorted(folder.iterdir()) == exported.files
