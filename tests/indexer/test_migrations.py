"""A library of the first version, byte for byte what that version's SQL made, is opened by this."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import inspect

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.catalog import open_catalog
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.migrations import MIGRATIONS, SCHEMA_VERSION
from rwkvsearch.indexer.tables import Table

FIRST = """
CREATE TABLE roots (id INTEGER NOT NULL, path BLOB NOT NULL, synced_at FLOAT,
  PRIMARY KEY (id), UNIQUE (path));
CREATE TABLE images (id INTEGER NOT NULL, content_hash VARCHAR NOT NULL, width INTEGER NOT NULL,
  height INTEGER NOT NULL, format VARCHAR NOT NULL, PRIMARY KEY (id), UNIQUE (content_hash));
CREATE TABLE files (id INTEGER NOT NULL, root_id INTEGER NOT NULL, path BLOB NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, image_id INTEGER,
  error VARCHAR, PRIMARY KEY (id), UNIQUE (root_id, path),
  FOREIGN KEY(root_id) REFERENCES roots (id), FOREIGN KEY(image_id) REFERENCES images (id));
CREATE INDEX ix_files_image_id ON files (image_id);
CREATE TABLE models (id INTEGER NOT NULL, model_id VARCHAR NOT NULL,
  preprocessing_id VARCHAR NOT NULL, dim INTEGER NOT NULL, weights_sha256 VARCHAR NOT NULL,
  created_at FLOAT NOT NULL, PRIMARY KEY (id), UNIQUE (model_id, preprocessing_id));
CREATE TABLE embeddings (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  image_id INTEGER NOT NULL, model INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (image_id, model),
  FOREIGN KEY(image_id) REFERENCES images (id), FOREIGN KEY(model) REFERENCES models (id));
CREATE INDEX embeddings_of_model ON embeddings (model, id);
CREATE TABLE captions (id INTEGER NOT NULL, image_id INTEGER NOT NULL, text VARCHAR NOT NULL,
  source VARCHAR NOT NULL, PRIMARY KEY (id), UNIQUE (image_id, source, text),
  FOREIGN KEY(image_id) REFERENCES images (id));
CREATE TABLE generations (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL,
  file_name VARCHAR NOT NULL, size INTEGER NOT NULL, head_sha256 VARCHAR NOT NULL,
  rows INTEGER NOT NULL, max_embedding_id INTEGER NOT NULL, created_at FLOAT NOT NULL,
  FOREIGN KEY(model) REFERENCES models (id));
PRAGMA user_version = 1;
INSERT INTO roots VALUES (1, CAST('/photos' AS BLOB), 5.0), (2, CAST('/one/cat.jpg' AS BLOB), 5.0);
INSERT INTO images VALUES (1, 'aa', 4, 3, 'JPEG'), (2, 'bb', 4, 3, 'PNG');
INSERT INTO files VALUES (1, 1, CAST('a/dog.jpg' AS BLOB), 10, 20, 30, 1, NULL),
  (2, 2, CAST('.' AS BLOB), 11, 21, 31, 2, NULL);
INSERT INTO models VALUES (1, 'tiny', 'crop', 2, 'cc', 5.0);
INSERT INTO embeddings VALUES (1, 1, 1, x'003C0000'), (2, 2, 1, x'0000003C');
"""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "library.sqlite")
    connection.executescript(FIRST)
    connection.close()
    return tmp_path


def test_nothing_is_lost(first: Path) -> None:
    with Library.open(first) as library:
        assert library.paths_of([1, 2]) == {
            1: [Path("/photos/a/dog.jpg")],
            2: [Path("/one/cat.jpg")],
        }
        ids, embeddings = library.embeddings("tiny", "crop")
        assert ids.tolist() == [1, 2] and embeddings.tolist() == [[1, 0], [0, 1]]
        assert library.stats().files == 2


def test_the_schema_is_that_of_a_new_library(first: Path, tmp_path: Path) -> None:
    Library.open(first).close()
    (tmp_path / "new").mkdir()
    old = inspect(open_catalog(first / "library.sqlite"))
    new = inspect(open_catalog(tmp_path / "new" / "library.sqlite", create=True))
    assert set(old.get_table_names()) == set(new.get_table_names())
    for table in Table.metadata.sorted_tables:
        columns = [
            {(c["name"], c["nullable"]) for c in one.get_columns(table.name)} for one in (old, new)
        ]
        assert columns[0] == columns[1], table.name
        indexes = [{i["name"] for i in one.get_indexes(table.name)} for one in (old, new)]
        assert indexes[0] == indexes[1], table.name


def test_a_second_opening_changes_nothing(first: Path) -> None:
    Library.open(first).close()
    connection = sqlite3.connect(first / "library.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()
    Library.open(first).close()


def test_a_read_only_one_says_so(first: Path) -> None:
    with pytest.raises(LibraryError, match="made by an older rwkvsearch"):
        open_catalog(first / "library.sqlite", read_only=True)


def test_a_kill_in_the_middle_leaves_the_old_one(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("ALTER TABLE roots ADD COLUMN kind VARCHAR", "THIS IS NOT SQL")
    monkeypatch.setitem(MIGRATIONS, 1, broken)
    with pytest.raises(LibraryError):
        Library.open(first)
    connection = sqlite3.connect(first / "library.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(connection.execute("PRAGMA table_info(roots)").fetchall()) == 3
    connection.close()
