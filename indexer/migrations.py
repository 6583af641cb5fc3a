"""How a library of an older version becomes one of this version: plain SQL, once per step.

A handful of statements needs no framework: the version is in the header of the SQLite file
(`PRAGMA user_version`), or a setting in PostgreSQL, and all steps run in one transaction, so a kill
leaves the old library. No library in PostgreSQL is older than version 3, so from there on a step is
SQL that both understand.
"""

from __future__ import annotations

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE roots ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'folder'",
        "ALTER TABLE roots ADD COLUMN stamp VARCHAR",
        "ALTER TABLE images ADD COLUMN frames INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE images ADD COLUMN perceptual_hash INTEGER",
        "ALTER TABLE images ADD COLUMN taken_at VARCHAR",
        "ALTER TABLE images ADD COLUMN camera VARCHAR",
        "ALTER TABLE images ADD COLUMN lens VARCHAR",
        "ALTER TABLE images ADD COLUMN latitude FLOAT",
        "ALTER TABLE images ADD COLUMN longitude FLOAT",
        "ALTER TABLE images ADD COLUMN own_facts VARCHAR",
        "CREATE INDEX ix_images_taken_at ON images (taken_at)",
        "ALTER TABLE files ADD COLUMN device INTEGER NOT NULL DEFAULT 0",
        'ALTER TABLE files ADD COLUMN "offset" INTEGER',
        "ALTER TABLE files ADD COLUMN gone_at FLOAT",
        "ALTER TABLE files ADD COLUMN sidecars VARCHAR",
        "ALTER TABLE files ADD COLUMN beside VARCHAR",
        "ALTER TABLE generations ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'SQfp16'",
        "ALTER TABLE generations ADD COLUMN search VARCHAR NOT NULL DEFAULT '{}'",
        "ALTER TABLE generations ADD COLUMN ann_recall FLOAT",
        "DROP TABLE captions",  # no version has written to it
        # A picture named by itself was a root of its own.
        "INSERT INTO roots (path, kind) VALUES (CAST('/' AS BLOB), 'loose') ON CONFLICT DO NOTHING",
        "UPDATE files SET path = (SELECT substr(path, 2) FROM roots WHERE id = root_id),"
        " root_id = (SELECT id FROM roots WHERE path = CAST('/' AS BLOB))"
        " WHERE path = CAST('.' AS BLOB)",
        "DELETE FROM roots WHERE kind = 'folder' AND id NOT IN (SELECT root_id FROM files)",
    ),
    2: (
        "DROP INDEX ix_files_image_id",
        "CREATE INDEX files_of_image ON files (image_id, gone_at)",
        "CREATE INDEX ix_images_camera ON images (camera)",
        "CREATE INDEX images_at ON images (latitude, longitude)",
    ),
}
"""For each schema version the statements that lead to the next; new tables come by themselves."""
SCHEMA_VERSION = max(MIGRATIONS) + 1
