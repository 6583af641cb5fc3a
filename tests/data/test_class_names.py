"""Names of classes from a set and from files, and what is refused."""

from pathlib import Path

import pytest

from rwkvsearch.data.class_names import class_names
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.labelled import LabelledSet, Layout


def labelled(*labels: str, layout: Layout = "csv") -> LabelledSet:
    return LabelledSet("birds", layout, labels, None, lambda: iter(()))


def test_from_the_set() -> None:
    assert class_names(labelled("coot", "wren, a small bird,")) == {
        "coot": ("coot",),
        "wren, a small bird,": ("wren", "a small bird"),
    }
    assert class_names(labelled("a_b")) == {"a_b": ("a_b",)}
    assert class_names(labelled("a_b", layout="folders")) == {"a_b": ("a b",)}
    with pytest.raises(DataError, match="birds: the label ' , ' holds no name"):
        class_names(labelled("coot", " , "))


@pytest.mark.parametrize(
    ("labels", "text", "wanted"),
    [
        (("b", "a"), "a\tcoot, a bird\n\nb\twren\n", {"a": ("coot", "a bird"), "b": ("wren",)}),
        (
            ("n01440764", "n01443537"),
            "n01440764 tench, Tinca tinca\nn01443537\tgoldfish\n",
            {"n01440764": ("tench", "Tinca tinca"), "n01443537": ("goldfish",)},
        ),
        (("0", "2"), "coot\nwren\nlark\n", {"0": ("coot",), "1": ("wren",), "2": ("lark",)}),
        (("coot",), "\ufeffwren\ncoot\n", {"wren": ("wren",), "coot": ("coot",)}),
    ],
)
def test_from_lines(
    tmp_path: Path, labels: tuple[str, ...], text: str, wanted: dict[str, tuple[str, ...]]
) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    found = class_names(labelled(*labels), tmp_path / "names.txt")
    assert found == wanted and list(found) == list(wanted)


def test_names_of_folders(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("house cat\nred_fox\nbig dog\n")
    found = class_names(labelled("house_cat", "red_fox", layout="folders"), tmp_path / "names.txt")
    wanted = {"house_cat": ("house cat",), "red_fox": ("red fox",), "big dog": ("big dog",)}
    assert found == wanted


def test_from_json(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text('{"a": "coot, black", "b": ["wren", " a  bird "]}')
    assert class_names(labelled("a"), file) == {"a": ("coot, black",), "b": ("wren", "a bird")}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "\n\n", "holds no class; write one a line"),
        ("names.txt", "a\tx\nb\ty\na\tz\n", r"the label 'a' stands twice \(1 such\)"),
        ("names.txt", "a\tx\nb\tx\n", "the name 'x' stands twice"),
        ("names.txt", "a\tx\nb\t , \n", "the class 'b' has no name"),
        ("names.txt", "a\tx\nc\ty\n", "no class for 1 of the 2 labels of birds, the first is 'b'"),
        ("names.txt", "\xff", "not UTF-8"),
        ("names.json", "{", "not JSON"),
        ("names.json", "{}", "holds no class"),
        ("names.json", '["a", "b"]', "not an object of labels"),
        ("names.json", "3", "not an object of labels"),
        ("names.json", '{"a": 3}', "the class 'a' is neither a name nor a list of names"),
        ("names.json", '{"a": {"b": "c"}}', "the class 'a' is neither a name nor a list of names"),
        ("names.json", '{"a": "x", "b": "y", "a": "z"}', "the label 'a' stands twice"),
        ("names.json", '{"a": "x", "b": []}', "the class 'b' has no name"),
    ],
)
def test_faults(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=f"{name}: {message}"):
        class_names(labelled("a", "b"), tmp_path / name)
    with pytest.raises(DataError, match=r"absent.txt: cannot be read: No such file"):
        class_names(labelled("a"), tmp_path / "absent.txt")
