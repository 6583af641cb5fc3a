"""Embeddings that leave a library as files, and come into another."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import DataError, LibraryError, ModelError
from rwkvsearch.indexer.exchange import write
from rwkvsearch.indexer.exchange.layout import NOTE, Part, read_parts, write_part
from rwkvsearch.indexer.exchange.read import Given, read_embeddings
from rwkvsearch.indexer.exchange.write import model_named, write_embeddings
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync

pq = pytest.importorskip("pyarrow.parquet", reason="needs pip install 'rwkvsearch[remote]'")
Paint = Callable[[Path, int], Path]


@pytest.fixture
def filled(library: Library, photos: Path, encoder: Any) -> Library:
    (photos / "a" / "0.txt").write_text("a red boat\nanother text\n", "utf-8")
    sync(library, [photos], encoder)
    return library


@pytest.fixture
def other(tmp_path: Path) -> Library:
    return Library.create(tmp_path / "other")


def export(library: Library, folder: Path) -> Path:
    assert write_embeddings(library, model_named(library, None), folder) == 10
    return folder


def bring(library: Library, folder: Path, *pictures: Path, name: str | None = None) -> Any:
    return read_embeddings(library, Given.open(folder, name), pictures, SyncOptions())


def foreign(folder: Path, paths: list[str], dim: int = 6, dtype: Any = np.float16) -> Any:
    """A folder as clip-retrieval writes it; its rows, of unit length."""
    rows = np.random.default_rng(1).standard_normal((len(paths), dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nothing = [None] * len(paths)
    write_part(folder, "0", Part(rows.astype(dtype), None, paths, nothing, nothing))
    return rows


def by_name(library: Library, model: Any) -> dict[str, Any]:
    ids, rows = library.embeddings(model.model_id, model.preprocessing_id)
    paths = library.paths_of(ids.tolist())
    return {paths[i][0].name: row for i, row in zip(ids.tolist(), rows, strict=True)}


def test_layout_is_that_of_clip_retrieval(filled: Library, tmp_path: Path, photos: Path) -> None:
    folder = export(filled, tmp_path / "out")
    images = np.load(folder / "img_emb" / "img_emb_0.npy")
    table = pq.read_table(folder / "metadata" / "metadata_0.parquet").to_pydict()
    assert (images.shape, images.dtype) == ((10, 12), np.float16)
    assert table["image_path"][0] == str(photos / "a" / "0.png")
    assert table["caption"][:2] == ["a red boat", None]
    mine = by_name(filled, model_named(filled, None))
    for row, path in zip(images, table["image_path"], strict=True):
        assert np.array_equal(row, mine[Path(path).name])
    assert not (folder / "text_emb").exists()


def test_texts_go_along_if_every_image_has_one(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    for picture in photos.rglob("*.png"):
        picture.with_suffix(".txt").write_text(f"text of {picture.name}", "utf-8")
    sync(library, [photos], encoder)
    (part,) = read_parts(export(library, tmp_path / "out"))
    assert part.texts is not None
    expected = encoder.encode_texts([text for text in part.captions if text])
    assert np.allclose(part.texts, expected, atol=1e-3)


def test_parts_have_names_that_sort(
    filled: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_ROWS", 1)
    folder = export(filled, tmp_path / "out")
    names = [path.name for path in (folder / "img_emb").iterdir()]
    assert sorted(names)[-1] == "img_emb_9.npy"
    monkeypatch.setattr(write, "_ROWS", 4)
    parts = list(read_parts(export(filled, tmp_path / "three")))
    assert [len(part.paths) for part in parts] == [4, 4, 2]


def test_out_and_in_again_is_the_same(
    filled: Library, other: Library, tmp_path: Path, encoder: Any
) -> None:
    before = encoder.encoded
    done = bring(other, export(filled, tmp_path / "out"))
    assert (done.rows, done.found, done.report.added) == (10, 10, 10)
    ours, theirs = (by_name(one, model_named(one, None)) for one in (filled, other))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert sync(other, None, encoder).unchanged == 10
    assert encoder.encoded == before
    assert bring(other, tmp_path / "out").found == 0


def test_a_picture_is_known_by_its_content(
    filled: Library, other: Library, tmp_path: Path, photos: Path, paint: Paint
) -> None:
    folder = export(filled, tmp_path / "out")
    shutil.copytree(photos, tmp_path / "moved")
    paint(tmp_path / "moved" / "a" / "0.png", 99)  # another picture at the path of one of them
    done = bring(other, folder, tmp_path / "moved")
    assert (done.rows, done.found) == (10, 9)
    assert other.stats().files == 9


def test_embeddings_of_another_model(other: Library, photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    rows = foreign(tmp_path / "clip", paths, dtype=np.float32)
    done = bring(other, tmp_path / "clip", name="ViT-B/32")
    assert (done.found, done.origin.model_id) == (10, "ViT-B/32")
    kept = by_name(other, model_named(other, "ViT-B/32"))
    for path, row in zip(paths, rows, strict=True):
        assert np.allclose(kept[Path(path).name], row, atol=1e-3)


def test_two_models_lie_side_by_side(filled: Library, photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    foreign(tmp_path / "clip", paths[:4])
    assert bring(filled, tmp_path / "clip", name="clip").found == 4
    assert [model.embeddings for model in filled.models()] == [10, 4]
    with pytest.raises(LibraryError, match="choose one with --model"):
        model_named(filled, None)
    assert model_named(filled, "clip").dim == 6


def test_keys_of_shards_and_relative_paths(other: Library, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(photos / "a" / "1.png", "000001.png")
        archive.add(photos / "a" / "2.png", "000002.png")
    foreign(tmp_path / "clip", ["000001", "b/7.png", "none"])
    done = bring(other, tmp_path / "clip", tmp_path / "0.tar", photos, name="clip")
    assert (done.rows, done.found, other.stats().files) == (3, 2, 2)


def test_rows_without_length_are_left_out(other: Library, photos: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    foreign(tmp_path / "clip", paths)
    file = tmp_path / "clip" / "img_emb" / "img_emb_0.npy"
    rows = np.load(file)
    rows[0], rows[1] = 0, np.nan
    np.save(file, rows)
    assert bring(other, tmp_path / "clip", name="clip").found == 8


def test_nothing_is_overwritten(filled: Library, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").touch()
    with pytest.raises(DataError, match="is not empty"):
        export(filled, folder)
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: shutil.rmtree(f / "img_emb"), "no img_emb/img_emb_0.npy"),
        (lambda f: (f / "img_emb" / "img_emb_0.npy").write_bytes(b"?"), "cannot be read as npy"),
        (lambda f: (f / "metadata" / "metadata_0.parquet").write_bytes(b"?"), "as parquet"),
        (lambda f: (f / "metadata" / "metadata_0.parquet").unlink(), "as parquet"),
        (lambda f: np.save(f / "img_emb" / "img_emb_0.npy", np.zeros((3, 6))), "not fp16 or fp32"),
        (lambda f: np.save(f / "img_emb" / "img_emb_0.npy", np.eye(6, dtype="f2")), "rows"),
        (lambda f: (f / NOTE).write_text("{}"), "not as `rwkvsearch export`"),
    ],
)
def test_a_damaged_folder_is_one_line(
    tmp_path: Path, photos: Path, spoil: Callable[[Path], object], said: str
) -> None:
    foreign(tmp_path / "clip", [str(photos / "a" / "0.png")])
    spoil(tmp_path / "clip")
    with pytest.raises(DataError, match=said):
        Given.open(tmp_path / "clip", "clip")


def test_the_model_has_to_be_named_once(filled: Library, photos: Path, tmp_path: Path) -> None:
    foreign(tmp_path / "clip", [str(photos / "a" / "0.png")])
    with pytest.raises(ModelError, match="name it with --model"):
        Given.open(tmp_path / "clip", None)
    folder = export(filled, tmp_path / "out")
    assert json.loads((folder / NOTE).read_text())["model_id"] == "fake"
    with pytest.raises(ModelError, match="of fake, not of clip"):
        Given.open(folder, "clip")


def test_pictures_that_are_elsewhere(other: Library, tmp_path: Path) -> None:
    foreign(tmp_path / "clip", ["/nowhere/1.png"])
    with pytest.raises(DataError, match="name the folders or shards"):
        bring(other, tmp_path / "clip", name="clip")
