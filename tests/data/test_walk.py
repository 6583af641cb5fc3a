"""The walk: every picture below a folder, sorted, and a word about what cannot be listed."""

import os
from pathlib import Path

import pytest

from rwkvsearch.data.walk import find_images


def test_find_images_walk(tmp_path: Path) -> None:
    for name in ["b.JPG", "a/z.png", "a/.hidden.png", "a/._z.png", ".git/x.png", "a b/ü.webp"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "in.gif").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "b.JPG")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = list(find_images(tmp_path))
    names = ["a/z.png", "a b/ü.webp", "b.JPG", "folder.png/in.gif", "link.png"]
    assert found == [tmp_path / name for name in names] == sorted(found)


def test_find_images_root_kinds(tmp_path: Path) -> None:
    picture = tmp_path / "one.png"
    picture.touch()
    troubles: list[tuple[Path, str]] = []
    missing, text = tmp_path / "none", tmp_path / "text.txt"
    text.touch()

    def note(path: Path, why: str) -> None:
        troubles.append((path, why))

    assert list(find_images(picture, on_error=note)) == [picture]
    assert list(find_images(text, on_error=note)) == []
    assert list(find_images(missing, on_error=note)) == []
    assert list(find_images(missing)) == []
    assert troubles == [(missing, "file not found")]


def test_find_images_reports_a_folder_it_cannot_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "z.png").touch()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    troubles: list[tuple[Path, str]] = []
    found = list(find_images(tmp_path, on_error=lambda path, why: troubles.append((path, why))))
    assert found == [tmp_path / "z.png"]
    assert troubles == [(tmp_path / "locked", "permission denied")]
