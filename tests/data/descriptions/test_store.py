"""What is written comes back the same, from every form, and never half."""

import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from rwkvsearch.data.descriptions.sources import find_items
from rwkvsearch.data.descriptions.store import iterate_descriptions, load_descriptions
from rwkvsearch.data.descriptions.texts import Described, Look, Tag, Text
from rwkvsearch.data.descriptions.writers import open_writer
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import iterate_shards

FORMS = ["out.jsonl", "out.parquet", "out"]


def described(photos: Path) -> list[Described]:
    """The six pictures with texts; the last one could not be used, the one before has a fault."""
    items = []
    for number, item in enumerate(find_items(photos)):
        texts = [Text("raw", text, "set") for text in item.raw]
        texts += [Text("synthetic", f"caption {number} \u00e9", "transformers", "m", None)]
        texts += [Text("generated", f"answer {number}", "endpoint", "llm", 0.25, "ab12")]
        tags = (Tag("dog", 0.87, 2), Tag("grass", 0.3))
        items.append(
            Described(item.key, item.image, f"{number:064}", tuple(texts), tags, Look(("red",)))
        )
    items[4] = Described(
        items[4].key, items[4].image, "4" * 64, items[4].sayings[:1], error="generated: HTTP 500"
    )
    items[5] = Described(items[5].key, items[5].image, error="truncated file")
    return items


def write(target: Path, items: Iterable[Described], shard_size: int = 2) -> None:
    with open_writer(target, shard_size=shard_size) as writer:
        for item in items:
            writer.add(item)


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(form: str, photos: Path, tmp_path: Path) -> None:
    if form.endswith("parquet"):
        pytest.importorskip("pyarrow")
    items = described(photos)
    write(tmp_path / form, items)
    found = load_descriptions(tmp_path / form)
    assert [item.key for item in found] == [item.key for item in items[:5]]
    for before, after in zip(items, found, strict=False):
        assert after.sayings == before.sayings
        assert (after.tags, after.look, after.error) == (before.tags, before.look, before.error)
        assert after.sha256 == before.sha256
        assert after.read() == before.read()
    assert found[1].texts == {"synthetic": ("caption 1 \u00e9",), "generated": ("answer 1",)}
    raw = next(item for item in found if item.key == "a/red.png")
    assert raw.texts["raw"] == ("A red square.", "Something red.")
    assert not [path for path in tmp_path.rglob("*.part")]


def test_a_row_for_a_picture_that_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    items = described(photos)
    write(tmp_path / "out.jsonl", items)
    rows = list(iterate_descriptions(tmp_path / "out.jsonl"))
    assert (rows[5].key, rows[5].sayings, rows[5].error) == (items[5].key, (), "truncated file")
    write(tmp_path / "out", items)
    lines = (tmp_path / "out/errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["error"] for line in lines] == [items[4].error, items[5].error]


def test_paths_are_relative_to_the_file(photos: Path, tmp_path: Path) -> None:
    write(photos / "out.jsonl", described(photos))
    row = json.loads((photos / "out.jsonl").read_text().splitlines()[0])
    assert row["path"] == "a/blue.png"
    photos.rename(tmp_path / "moved")
    assert all(item.read() for item in load_descriptions(tmp_path / "moved/out.jsonl"))


def test_shards_are_what_others_read(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", described(photos))
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert [shard.name for shard in shards] == [f"descriptions-0000{n}.tar" for n in range(3)]
    with tarfile.open(shards[1]) as archive:
        assert archive.getnames() == [
            f"00000000{n}.{s}" for n in (2, 3) for s in ("png", "json", "txt")
        ]
    texts = [item.text for item in iterate_shards(tmp_path / "out")]
    assert texts == ["answer 0", "answer 1", "answer 2", "answer 3", "caption 4 \u00e9"]


def test_formats_that_shards_lack_become_jpeg(tmp_path: Path, photos: Path) -> None:
    from PIL import Image

    Image.new("RGB", (9, 7), "orange").save(tmp_path / "one.bmp")
    (item,) = find_items(tmp_path / "one.bmp")
    write(tmp_path / "out", [Described(item.key, item.image, sayings=(Text("raw", "x", "set"),))])
    (found,) = load_descriptions(tmp_path / "out")
    assert found.key == "one.bmp"
    assert found.read()[:2] == b"\xff\xd8"


def test_a_shorter_run_leaves_no_old_shards(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", described(photos))
    (tmp_path / "out/theirs.tar").write_bytes(b"")
    write(tmp_path / "out", described(photos)[:2])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["descriptions-00000.tar", "theirs.tar"]
    assert len(load_descriptions(tmp_path / "out")) == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_stop_leaves_the_old_file_whole(form: str, photos: Path, tmp_path: Path) -> None:
    if form.endswith("parquet"):
        pytest.importorskip("pyarrow")
    items = described(photos)
    write(tmp_path / form, items, shard_size=10)
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / form) as writer:
        writer.add(items[3])
        raise KeyboardInterrupt
    assert len(load_descriptions(tmp_path / form)) == 5
    assert not [path for path in tmp_path.rglob("*.part")]


def test_two_at_once(photos: Path, tmp_path: Path) -> None:
    with open_writer(tmp_path / "out.jsonl") as writer:
        writer.add(described(photos)[0])
        with pytest.raises(DataError, match="another rwkvsearch is writing here"):
            open_writer(tmp_path / "out.jsonl")
    assert len(load_descriptions(tmp_path / "out.jsonl")) == 1


def test_names_that_are_not_utf8(photos: Path, tmp_path: Path) -> None:
    (photos / "a/red.png").rename(photos / "a/r\udce9d.png")
    items = described(photos)
    write(tmp_path / "out.jsonl", items)
    assert load_descriptions(tmp_path / "out.jsonl")[2].key == "a/r\udce9d.png"
    pytest.importorskip("pyarrow")
    write(tmp_path / "out.parquet", items)
    row = list(iterate_descriptions(tmp_path / "out.parquet"))[2]
    assert row.sayings == () and row.error == "file name is not UTF-8: write a .jsonl"


def test_places_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file/out.jsonl", tmp_path / "file/out"):
        with pytest.raises(DataError, match="cannot be written: (File exists|Not a directory)"):
            write(target, described(photos))
    with pytest.raises(DataError, match=r"out.csv: describe writes a folder of shards, a .parquet"):
        open_writer(tmp_path / "out.csv")
    with pytest.raises(DataError, match="nothing was described"):
        write(tmp_path / "empty", described(photos)[5:])


def test_not_into_the_folder_of_the_input(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "in", described(photos))
    items = find_items(tmp_path / "in")
    with pytest.raises(DataError, match="the shards to describe lie here"):
        open_writer(tmp_path / "in", sources=items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "row 1: not a row of `rwkvsearch describe`"),
        ('{"key": "a"}', "row 1: not a row .*no 'path'"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_files_of_others(content: str | bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=f"rows.jsonl.*{message}"):
        load_descriptions(file)


def test_wrong_kinds_and_damaged_files(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", described(photos)[:1])
    text = (tmp_path / "out.jsonl").read_text().replace('"synthetic"', '"invented"')
    (tmp_path / "out.jsonl").write_text(text)
    with pytest.raises(DataError, match="no kind of text is called 'invented'"):
        load_descriptions(tmp_path / "out.jsonl")
    for name in ("absent.jsonl", "absent"):
        with pytest.raises(DataError, match="absent"):
            load_descriptions(tmp_path / name)
    pytest.importorskip("pyarrow")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"bad.parquet: cannot be read"):
        load_descriptions(tmp_path / "bad.parquet")


def test_a_picture_that_went_away(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", described(photos))
    write(tmp_path / "out", described(photos))
    (photos / "a/blue.png").unlink()
    with pytest.raises(DataError, match="blue.png: cannot be read: No such file"):
        load_descriptions(tmp_path / "out.jsonl")[0].read()
    items = load_descriptions(tmp_path / "out")
    (tmp_path / "out/descriptions-00000.tar").write_bytes(b"")
    with pytest.raises(DataError, match="ends before the picture"):
        items[0].read()


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for use in (open_writer, load_descriptions):
        with pytest.raises(DataError, match=r"pip install 'rwkvsearch\[describe\]'.*\.jsonl"):
            use(tmp_path / "out.parquet")
