"""The same data has the same fingerprint wherever it lies; any change has another."""

import json
import tarfile
from pathlib import Path

import pytest

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.fingerprint import captions_fingerprint


def captioned(folder: Path, entries: list[tuple[str, bytes, list[str]]]) -> Path:
    folder.mkdir()
    images = []
    for name, content, captions in entries:
        (folder / name).write_bytes(content)
        sentences = [{"raw": text} for text in captions]
        images.append({"filename": name, "split": "test", "sentences": sentences})
    (folder / "dataset_a.json").write_text(json.dumps({"dataset": "a", "images": images}))
    return folder


def test_captions(tmp_path: Path) -> None:
    entries = [("1.jpg", b"one", ["a", "b"]), ("2.jpg", b"two", ["c"])]
    first = captions_fingerprint(load_captions(captioned(tmp_path / "a", entries)))
    assert len(first) == 16 and int(first, 16) >= 0
    renamed = [("9.jpg", b"two", ["c"]), ("8.jpg", b"one", ["b", "a"])]
    assert captions_fingerprint(load_captions(captioned(tmp_path / "b", renamed))) == first
    for n, other in enumerate(
        (
            entries[:1],
            [entries[0], ("2.jpg", b"two", ["d"])],
            [entries[0], ("2.jpg", b"2", ["c"])],
            [("1.jpg", b"one", ["a"]), ("2.jpg", b"two", ["b", "c"])],
        )
    ):
        assert captions_fingerprint(load_captions(captioned(tmp_path / f"{n}", other))) != first
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("1.jpg", "2.jpg"):
            archive.add(tmp_path / "a" / name, name)
            (tmp_path / "x.txt").write_text("a\nb" if name == "1.jpg" else "c")
            archive.add(tmp_path / "x.txt", name.replace("jpg", "txt"))
    assert captions_fingerprint(load_captions(tmp_path / "a.tar")) == first
    captions = load_captions(tmp_path / "a")
    (tmp_path / "a" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"2\.jpg: cannot be read"):
        captions_fingerprint(captions)
