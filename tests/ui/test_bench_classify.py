"""`bench classify` as a person runs it."""

import json
from pathlib import Path

import pytest

from .conftest import Run, make_picture


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Three class folders of three pictures."""
    for seed in range(9):
        name = ("house_cat", "dog", "cow")[seed % 3]
        make_picture(tmp_path / "pets" / name / f"{seed}.png", seed)
    return tmp_path / "pets"


def test_text_and_json_agree(run: Run, pets: Path) -> None:
    text = run("bench", "classify", "--data", pets, "--templates", "pets", "--per-class")
    told = run("bench", "classify", "--data", pets, "--templates", "pets", "--per-class", "--json")
    assert (text.code, text.err, told.code, told.err) == (0, "", 0, "")
    found = json.loads(told.out)
    low, high = found["interval_95"]["top1"]
    first, second, *below = text.out.splitlines()
    wanted = f"{found['model']}: top-1 {found['top1']:.1f} % [{low:.1f}, {high:.1f}], top-5 100.0 %"
    assert first.startswith(wanted)
    assert second == "9 images, 3 classes, 4 templates"
    assert (found["images"], found["classes"], found["templates"]) == (9, 3, 4)
    assert {one["class"] for one in found["per_class"]} == {"house cat", "dog", "cow"}
    mistakes = sum(one["count"] for one in found["mixed_up"])
    assert mistakes == round(9 * (1 - found["top1"] / 100)) > 0
    assert below[0] == "most often mixed up:"
    assert below[1 + len(found["mixed_up"])].split()[:3] == ["top-1", "top-5", "images"]
    plain = json.loads(run("bench", "classify", "--data", pets, "--json").out)
    assert plain["templates"] == 1 and "per_class" not in plain


def test_templates_add_up(run: Run, pets: Path) -> None:
    asked = ("bench", "classify", "--data", pets, "--json")
    both = run(*asked, "--template", "my {}", "--template", "a {}", "--templates", "Oxford Pets")
    assert both.code == 1 and "no set of templates is called 'Oxford Pets'" in both.err
    both = run(*asked, "--template", "my {}", "--template", "my {}", "--templates", "Pets")
    assert json.loads(both.out)["templates"] == 5
    wrong = run(*asked, "--template", "a dog")
    assert wrong.code == 2 and "a template holds {} once: 'a dog'" in wrong.err


def test_names_from_a_file(run: Run, pets: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("house_cat\ttabby, tomcat\ndog\nbull\n")
    missing = run("bench", "classify", "--data", pets, "--classes", names)
    wanted = f"{names}: no class for 1 of the 3 labels of pets, the first is 'cow'"
    assert (missing.code, missing.out, missing.err) == (1, "", f"rwkvsearch: {wanted}\n")
    names.write_text("house_cat\ttabby, tomcat\ndog\ncow\nbull\n")
    found = run("bench", "classify", "--data", pets, "--classes", names, "--per-class")
    assert "9 images, 4 classes, 1 of them without a picture, 1 template" in found.out
    assert "tabby" in found.out and "house cat" not in found.out


def test_unreadable_pictures_are_named(run: Run, pets: Path) -> None:
    (pets / "dog" / "bad\n.png").write_bytes(b"nothing")
    found = run("bench", "classify", "--data", pets)
    assert found.code == 0
    assert found.err == f"skipped {pets}/dog/bad\\n.png: not an image\n"
    assert "9 images, 3 classes, 1 template; 1 unreadable left out" in found.out


def test_a_broken_set_is_one_line(run: Run, pets: Path) -> None:
    (pets / "cat").mkdir()
    found = run("bench", "classify", "--data", pets)
    wanted = f"{pets}: class folders without a picture: 1, the first is cat"
    assert (found.code, found.out, found.err) == (1, "", f"rwkvsearch: {wanted}\n")
