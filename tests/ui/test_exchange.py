"""`export --to embeddings` and `import`, as commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs pip install 'rwkvsearch[remote]'")


@pytest.mark.usefixtures("indexed")
def test_there_and_back_finds_the_same(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("export", out, "--to", "embeddings")
    assert done.code == 0 and done.out == ""
    assert f"in {out}" in done.err
    model = json.loads((out / "rwkvsearch.json").read_text())["model_id"]
    brought = run("import", out, "--library", tmp_path / "new")
    assert brought.code == 0, brought.err
    assert model in brought.out and "no model of rwkvsearch" not in brought.out
    asked = [run("query", "a dog", "--json", "--library", place) for place in (tmp_path / "new",)]
    hits = json.loads(asked[0].out)["hits"]
    assert hits == json.loads(run("query", "a dog", "--json").out)["hits"]


def test_another_model_is_said_to_be_one(run: Any, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    picture = next(photos.rglob("*.*"))
    (tmp_path / "clip" / "img_emb").mkdir(parents=True)
    (tmp_path / "clip" / "metadata").mkdir()
    np.save(tmp_path / "clip" / "img_emb" / "img_emb_0.npy", np.ones((1, 4), np.float32))
    table = pyarrow.table({"image_path": [str(picture)]})
    parquet.write_table(table, tmp_path / "clip" / "metadata" / "metadata_0.parquet")
    library = tmp_path / "new"
    nameless = run("import", tmp_path / "clip", "--library", library)
    assert nameless.code == 1 and "name it with --model" in nameless.err
    assert not library.exists()
    brought = run("import", tmp_path / "clip", "--model", "ViT-B/32", "--library", library)
    assert "1 embedding of ViT-B/32, 1 of them new here" in brought.out
    assert "ViT-B/32 is no model of rwkvsearch" in brought.out
    asked = run("query", "a dog", "--library", library)
    assert asked.code == 1 and "indexed with ViT-B/32" in asked.err


@pytest.mark.usefixtures("indexed")
def test_embeddings_take_no_query(run: Any, tmp_path: Path) -> None:
    done = run("export", tmp_path / "out", "a dog", "--to", "embeddings")
    assert done.code == 2 and "takes no query" in done.err
