import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.captions import CaptionSet, load_captions
from rwkvsearch.data.errors import DataError

Document = dict[str, Any]
Change = Callable[[Document], object]


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def write(file: Path, document: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def karpathy(splits: str = "train train val test test", captions: int = 2) -> Document:
    images = []
    for n, split in enumerate(splits.split()):
        sentences = [
            {"raw": f"caption {n}.{c} .", "tokens": ["caption"], "imgid": n, "sentid": n * 9 + c}
            for c in range(captions)
        ]
        images.append({"filename": f"{n}.jpg", "imgid": n, "split": split, "sentences": sentences})
    return {"dataset": "flickr8k", "images": images}


def coco(count: int = 3) -> Document:
    return {
        "info": {},
        "images": [{"id": 100 + n, "file_name": f"{n:012d}.jpg"} for n in range(count)],
        "annotations": [
            {"id": 10 * n + c, "image_id": 100 + n, "caption": f"caption {n}.{c}\n"}
            for n in range(count)
            for c in range(n + 1)
        ],
    }


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    write(tmp_path / "dataset_flickr8k.json", karpathy())
    touch(*(tmp_path / "images" / f"{n}.jpg" for n in range(5)))
    return tmp_path


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    write(tmp_path / "annotations/captions_val2017.json", coco())
    touch(*(tmp_path / "val2017" / f"{n:012d}.jpg" for n in range(3)))
    return tmp_path


def names(captions: CaptionSet) -> list[str]:
    return [image.path.name for image in captions.images]


def test_karpathy_defaults_to_test(flickr: Path) -> None:
    for source in (flickr, flickr / "dataset_flickr8k.json"):
        found = load_captions(source)
        assert (found.name, found.split) == ("flickr8k", "test")
        assert names(found) == ["3.jpg", "4.jpg"]
        assert found.images[0].captions == ("caption 3.0 .", "caption 3.1 .")
        assert found.images[0].path == flickr / "images/3.jpg"


def test_karpathy_splits(flickr: Path) -> None:
    assert names(load_captions(flickr, "train")) == ["0.jpg", "1.jpg"]
    assert names(load_captions(flickr, "val")) == ["2.jpg"]
    with pytest.raises(DataError, match="no split 'tset'; splits in this file: test, train, val"):
        load_captions(flickr, "tset")


def test_restval_is_its_own_split(tmp_path: Path) -> None:
    write(tmp_path / "dataset_coco.json", karpathy("train restval"))
    touch(tmp_path / "0.jpg", tmp_path / "1.jpg")
    assert names(load_captions(tmp_path, "train")) == ["0.jpg"]
    assert names(load_captions(tmp_path, "restval")) == ["1.jpg"]
    everything = load_captions(tmp_path)
    assert everything.split is None
    assert names(everything) == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize("nested", [True, False])
def test_karpathy_coco_names_a_folder_per_image(tmp_path: Path, nested: bool) -> None:
    document = karpathy("test test")
    document["images"][0]["filepath"] = "train2014"
    document["images"][1]["filepath"] = "val2014"
    write(tmp_path / "dataset_coco.json", document)
    folders = ("train2014", "val2014") if nested else ("images", "images")
    files = [tmp_path / folder / f"{n}.jpg" for n, folder in enumerate(folders)]
    touch(*files)
    assert [image.path for image in load_captions(tmp_path).images] == files


def test_samples() -> None:
    found = load_captions(Path(__file__).parents[3] / "data/samples")
    assert len(found.images) >= 30
    assert len({image.path for image in found.images}) == len(found.images)


def test_photos_without_splits(tmp_path: Path) -> None:
    document = karpathy("a b", captions=1)
    for image in document["images"]:
        del image["split"]
    document["images"][1]["sentences"][0]["raw"] = " two words\n"
    write(tmp_path / "samples.json", document)
    touch(tmp_path / "photos/0.jpg", tmp_path / "photos/1.jpg")
    found = load_captions(tmp_path)
    assert found.split is None
    assert [image.captions for image in found.images] == [("caption 0.0 .",), ("two words",)]
    with pytest.raises(DataError, match="no split 'test'; splits in this file: none"):
        load_captions(tmp_path, "test")


def test_coco_keeps_ragged_captions(coco_folder: Path) -> None:
    file = coco_folder / "annotations/captions_val2017.json"
    for source, split in ((coco_folder, None), (file, None), (file, "val2017"), (file, "val")):
        found = load_captions(source, split)
        assert (found.name, found.split) == ("captions_val2017", "val2017")
        assert [len(image.captions) for image in found.images] == [1, 2, 3]
        assert found.images[2].captions[1] == "caption 2.1"
        assert found.images[0].path == coco_folder / "val2017/000000000000.jpg"


def test_coco_source_may_be_relative(coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(coco_folder / "annotations")
    assert len(load_captions(Path("captions_val2017.json")).images) == 3
    assert len(load_captions(Path()).images) == 3


def test_coco_folder_with_two_files(coco_folder: Path) -> None:
    write(coco_folder / "annotations/captions_train2017.json", coco(1))
    touch(coco_folder / "train2017/000000000000.jpg")
    assert load_captions(coco_folder).split == "val2017"
    assert load_captions(coco_folder, "train2017").split == "train2017"
    assert load_captions(coco_folder, "train").split == "train2017"
    with pytest.raises(DataError, match="captions_train2017.json.*captions_val2017.json"):
        load_captions(coco_folder, "test")
    write(coco_folder / "annotations/captions_val2014.json", coco(1))
    with pytest.raises(DataError, match="several caption files"):
        load_captions(coco_folder)


def test_karpathy_comes_before_coco(coco_folder: Path) -> None:
    write(coco_folder / "dataset_coco.json", karpathy("val test"))
    touch(coco_folder / "images/0.jpg", coco_folder / "images/1.jpg")
    assert names(load_captions(coco_folder)) == ["1.jpg"]
    assert names(load_captions(coco_folder, "val")) == ["0.jpg"]
    assert load_captions(coco_folder, "val2017").split == "val2017"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_captions(tmp_path / "absent")
    with pytest.raises(
        DataError, match=r"looked for Karpathy's dataset_.*captions_.*\.token.*csv.*\*\.tar"
    ):
        load_captions(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "neither Karpathy's nor COCO's layout.*nor that of ALBEF"),
        (b'{"photos": []}', "neither Karpathy's nor COCO's layout"),
        (b'{"images": [3]}', "neither Karpathy's nor COCO's layout"),
        (b'{"images": []}', "lists no images"),
    ],
)
def test_not_a_caption_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "captions.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_captions(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"][3].update(imgid=4), "imgid 3"),
        (lambda d: d["images"][0].update(imgid=[1], sentences=[]), "neither a number"),
        (lambda d: d["images"].append(d["images"][0]), "image id 0 occurs twice"),
        (lambda d: d["images"][0].update(filename="1.jpg"), "file name '1.jpg' occurs twice"),
        (
            lambda d: d["images"][4].update(sentences=[]),
            "a caption: 1, the first is 4.jpg",
        ),
        (lambda d: d["images"][4].pop("sentences"), "without a caption: 1"),
        (lambda d: d["images"][4].update(sentences=None), "expected a list"),
        (
            lambda d: d["images"][4]["sentences"][1].update(raw=" "),
            "sentence 1: `raw` is not",
        ),
        (lambda d: d["images"][4]["sentences"][1].pop("raw"), "sentence 1: `raw` is not"),
        (lambda d: d["images"][4].update(sentences=["a"]), "sentence 0 is not an object"),
        (lambda d: d["images"][4].pop("filename"), "image 4: `filename` is not"),
        (lambda d: d["images"][4].update(filename="9.jpg"), "1 of 2 images are missing.*9.jpg"),
        (lambda d: d["images"][4].update(filename="9" * 999), "1 of 2 images are missing"),
    ],
)
def test_karpathy_faults(flickr: Path, change: Change, message: str) -> None:
    document = karpathy()
    change(document)
    write(flickr / "dataset_flickr8k.json", document)
    with pytest.raises(DataError, match=message):
        load_captions(flickr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["annotations"][0].update(image_id=7),
            "listed: 1, the first for image_id 7",
        ),
        (lambda d: d["annotations"][0].update(id=10), "annotation id 10 occurs twice"),
        (lambda d: d["annotations"][0].update(caption=""), "annotation 0: `caption`"),
        (lambda d: d["annotations"].pop(0), "without a caption: 1"),
        (lambda d: d["annotations"].append(3), "annotation 6 is not an object"),
        (lambda d: d.update(annotations={}), "expected a list"),
        (lambda d: d["images"].append(d["images"][0]), "image id 100 occurs twice"),
        (lambda d: d["images"][0].pop("id"), "image 0 has no `id`"),
        (lambda d: d["images"][0].update(file_name="x.jpg"), "1 of 3 images are missing.*x.jpg"),
    ],
)
def test_coco_faults(coco_folder: Path, change: Change, message: str) -> None:
    document = coco()
    change(document)
    write(coco_folder / "annotations/captions_val2017.json", document)
    with pytest.raises(DataError, match=message):
        load_captions(coco_folder)


def test_unknown_split_of_a_coco_file(coco_folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'; splits in this file: val2017"):
        load_captions(coco_folder, "test")


def test_flickr8k(shared_data: Path) -> None:
    folder = shared_data / "data/flickr8k"
    if not folder.is_dir():
        pytest.skip(f"no Flickr8k in {folder}")
    found = load_captions(folder)
    assert (found.name, found.split, len(found.images)) == ("flickr8k", "test", 1000)
    assert {len(image.captions) for image in found.images} == {5}
