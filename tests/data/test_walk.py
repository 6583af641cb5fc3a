"""The walk: every picture below a folder, sorted, and a word about what cannot be listed."""

import os
from pathlib import Path

import pytest

from rwkvsearch.data.walk import IGNORE_FILE, Rules, find_images, walk


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
    names = ["b.JPG", "a/z.png", "a b/ü.webp", "folder.png/in.gif"]
    assert found == [tmp_path / name for name in names]


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


def names(root: Path, rules: Rules | None = None) -> set[str]:
    return {
        str((listing.folder / name).relative_to(root))
        for listing in walk(root, rules)
        for name in listing.pictures
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ["one.png", "two.jpg", "trips/rome/a.jpg", "trips/rome/b.png", "trips/x.png"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], {"one.png", "two.jpg", "trips/rome/a.jpg", "trips/rome/b.png", "trips/x.png"}),
        (["*.png"], {"two.jpg", "trips/rome/a.jpg"}),
        (["trips/"], {"one.png", "two.jpg"}),
        (["/*.png", "trips/rome/*"], {"two.jpg", "trips/x.png"}),
        (["*.png", "!x.png"], {"two.jpg", "trips/rome/a.jpg", "trips/x.png"}),
        (["trips/**/b.*"], {"one.png", "two.jpg", "trips/rome/a.jpg", "trips/x.png"}),
    ],
)
def test_patterns_given_or_in_a_file(tree: Path, patterns: list[str], left: set[str]) -> None:
    assert names(tree, Rules(exclude=patterns)) == left
    (tree / IGNORE_FILE).write_text("# what stays out\n" + "\n".join(patterns) + "\n")
    assert names(tree) == left


def test_a_deeper_ignore_file_wins_and_the_command_line_wins_over_both(tree: Path) -> None:
    (tree / IGNORE_FILE).write_text("*.png\n")
    (tree / "trips" / IGNORE_FILE).write_text("!*.png\n/x.png\n")
    assert names(tree) == {"two.jpg", "trips/rome/a.jpg", "trips/rome/b.png"}
    assert names(tree, Rules(exclude=["b.png", "!one.png"])) == {
        "one.png",
        "two.jpg",
        "trips/rome/a.jpg",
    }


def test_an_ignore_file_that_cannot_be_read_lets_nothing_in(tree: Path) -> None:
    (tree / "trips" / IGNORE_FILE).mkdir()
    troubles: list[tuple[Path, str]] = []
    found = list(find_images(tree, on_error=lambda path, why: troubles.append((path, why))))
    assert found == [tree / "one.png", tree / "two.jpg"]
    assert troubles == [(tree / "trips", f"{IGNORE_FILE}: unreadable: is a directory")]


def test_links_only_on_request_and_never_in_circles(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep" / "o.png").write_bytes(b"x")
    (other / "back").symlink_to(tree)
    (other / "self").symlink_to(other)
    (tree / "out").symlink_to(other)
    (tree / "again").symlink_to(other)
    (tree / "up").symlink_to(tmp_path)
    (tree / "inside").symlink_to(tree / "trips")
    (tree / "link.png").symlink_to(other / "deep" / "o.png")
    plain = {"one.png", "two.jpg", "trips/rome/a.jpg", "trips/rome/b.png", "trips/x.png"}
    assert names(tree) == plain
    assert names(tree, Rules(follow_links=True)) == plain | {"link.png", "again/deep/o.png"}


def test_texts_beside_pictures_are_listed(tree: Path) -> None:
    for name in ["one.txt", "two.jpg.json", "two.XMP", "notes.md", "trips/rome/.hidden.txt"]:
        (tree / name).write_text("words")
    first = next(walk(tree))
    assert sorted(first.pictures) == ["one.png", "two.jpg"]
    assert sorted(first.texts) == ["one.txt", "two.XMP", "two.jpg.json"]
    assert first.texts["one.txt"].st_size == 5


def test_a_part_of_a_walk(tree: Path) -> None:
    (tree / IGNORE_FILE).write_text("/trips/rome/a.jpg\nx.*\n/other/\n")
    (tree / "trips" / IGNORE_FILE).write_text("/rome/b.png\n!x.png\n")

    def part(folder: str, *exclude: str) -> set[str]:
        rules = Rules(exclude=exclude)
        return {
            name for listing in walk(tree / folder, rules, top=tree) for name in listing.pictures
        }

    assert part("trips") == {"x.png"}
    assert part("trips/rome") == set()
    assert part("trips/rome", "!b.png") == {"b.png"}
    (tree / "other").mkdir()
    (tree / "other" / "o.png").write_bytes(b"x")
    assert part("other") == set()
    (tree / "trips" / IGNORE_FILE).unlink()
    (tree / "trips" / IGNORE_FILE).mkdir()
    troubles: list[tuple[Path, str]] = []
    walked = walk(tree / "trips/rome", top=tree, on_error=lambda *trouble: troubles.append(trouble))
    assert [*walked] == []
    assert troubles == [(tree / "trips/rome", f"{IGNORE_FILE}: unreadable: is a directory")]
