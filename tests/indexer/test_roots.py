"""Roots with their state, and whether a folder is known."""

import os
import tarfile
from pathlib import Path

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageEncoder
from rwkvsearch.indexer.roots import is_known, root_states
from rwkvsearch.indexer.sync import sync


def test_counts_and_kinds(
    library: Library, encoder: ImageEncoder, photos: Path, tmp_path: Path
) -> None:
    shard = tmp_path / "some.tar"
    with tarfile.open(shard, "w") as archive:
        archive.add(photos / "a" / "0.png", "0.png")
    single = (photos / "b" / "9.png").rename(tmp_path / "single.png")
    (photos / "a" / "bad.jpg").write_bytes(b"")
    sync(library, [photos, shard, single], encoder)
    (photos / "b" / "8.png").unlink()
    sync(library, None, encoder)
    loose, folder, tar = root_states(library)
    assert (folder.path, folder.kind) == (photos, "folder")
    assert (folder.files, folder.errors, folder.gone) == (8, 1, 1)
    assert (tar.path, tar.kind, tar.files) == (shard, "shard", 1)
    assert (loose.kind, loose.files, loose.is_there) == ("loose", 1, True)
    assert folder.is_there and folder.synced_at is not None
    assert library.stats().files == sum(root.files for root in (loose, folder, tar))


def test_a_root_that_is_not_there(library: Library, encoder: ImageEncoder, photos: Path) -> None:
    sync(library, [photos], encoder)
    photos.rename(photos.with_name("elsewhere"))
    (root,) = root_states(library)
    assert not root.is_there and root.files == 10


def test_no_roots(library: Library) -> None:
    assert root_states(library) == []
    assert not is_known(library, Path("/"))


def test_what_is_known(library: Library, encoder: ImageEncoder, photos: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (photos / "a").rename(photos / odd)
    sync(library, [photos], encoder)
    for path in (photos, photos.parent, Path("/"), photos / odd, photos / "b" / "5.png"):
        assert is_known(library, path)
    strangers = (photos / "c", photos / "b" / "5", photos / odd / "..", photos / "b%", Path("b"))
    for path in strangers:
        assert not is_known(library, path)
    assert not is_known(library, photos.with_name("photo"))
