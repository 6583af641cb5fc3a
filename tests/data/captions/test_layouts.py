"""Every layout as its authors write it: read, told apart by content, and refused when broken."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from rwkvsearch.data.captions import EVERY_SPLIT, CaptionSet, has_captions, load_captions
from rwkvsearch.data.errors import DataError

Said = dict[str, list[str]]


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def said(found: CaptionSet) -> Said:
    return {image.path.name: list(image.captions) for image in found.images}


def refused(source: Path, message: str, split: str | None = None) -> None:
    """One clear line that names what is wrong."""
    with pytest.raises(DataError, match=message) as caught:
        load_captions(source, split)
    assert "\n" not in str(caught.value)


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


# ALBEF and BLIP


@pytest.fixture
def albef(tmp_path: Path) -> Path:
    for split, names in {"test": "ab", "val": "c", "train": "de"}.items():
        listed = [
            {"image": f"flickr30k-images/{n}.jpg", "caption": [f"{n} {c}" for c in range(5)]}
            for n in names
        ]
        (tmp_path / f"flickr30k_{split}.json").write_text(json.dumps(listed))
    pictures(tmp_path / "flickr30k-images", *(f"{n}.jpg" for n in "abcde"))
    return tmp_path


def test_albef(albef: Path) -> None:
    found = load_captions(albef / "flickr30k_test.json")
    assert (found.name, found.split) == ("flickr30k", "test")
    assert said(found) == {f"{n}.jpg": [f"{n} {c}" for c in range(5)] for n in "ab"}
    assert found.images[0].path == albef / "flickr30k-images/a.jpg"
    assert load_captions(albef) == found
    assert list(said(load_captions(albef, "val"))) == ["c.jpg"]
    assert list(said(load_captions(albef, "train"))) == ["d.jpg", "e.jpg"]
    refused(albef / "flickr30k_test.json", "no split 'val'; splits in this file: test", "val")


def test_albef_coco_names_folders_of_coco(tmp_path: Path) -> None:
    listed = [{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["a", "b"]}]
    (tmp_path / "coco_karpathy_test.json").write_text(json.dumps(listed))
    refused(tmp_path, "1 of 1 images are missing, the first is .*COCO_val2014_000000391895.jpg")
    pictures(tmp_path / "elsewhere/val2014", "COCO_val2014_000000391895.jpg")
    found = load_captions(tmp_path, pictures=tmp_path / "elsewhere")
    assert (found.name, found.split) == ("coco", "test")
    assert found.images[0].path == tmp_path / "elsewhere" / listed[0]["image"]
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_captions(tmp_path, pictures=tmp_path / "nowhere")


def test_albef_training_files_have_an_object_a_caption(tmp_path: Path) -> None:
    listed = [
        {"image": f"{n}.jpg", "caption": f" {n} {c}\n", "image_id": n} for c in "xy" for n in "ab"
    ]
    (tmp_path / "flickr30k_train.json").write_text(json.dumps(listed))
    pictures(tmp_path, "a.jpg", "b.jpg")
    assert said(load_captions(tmp_path)) == {"a.jpg": ["a x", "a y"], "b.jpg": ["b x", "b y"]}


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "lists no images"),
        ([{"image": "a.jpg"}, {"caption": ["x"]}], "nor that of ALBEF"),
        ([{"image": "a.jpg", "caption": []}], "images without a caption: 1, the first is a.jpg"),
        ([{"image": "a.jpg"}], "images without a caption: 1"),
        ([{"image": "a.jpg", "caption": [" "]}], "object 0: `caption` is not a text or empty"),
        ([{"image": "a.jpg", "caption": ["x"]}] * 2, "file name 'a.jpg' occurs twice"),
        ([{"image": "z.jpg", "caption": ["x"]}], "1 of 1 images are missing, .*z.jpg; looked in"),
    ],
)
def test_broken_albef(tmp_path: Path, listed: object, message: str) -> None:
    (tmp_path / "mine_test.json").write_text(json.dumps(listed))
    pictures(tmp_path, "a.jpg")
    refused(tmp_path / "mine_test.json", message)


# Flickr's token files


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """As the archives unpack: texts and pictures in folders beside each other."""
    texts = tmp_path / "Flickr8k_text"
    texts.mkdir()
    lines = [f"{n}.jpg#{c}\tA {n} , number {c} .\n" for n in "abcd" for c in range(5)]
    (texts / "Flickr8k.token.txt").write_text("".join(lines))
    (texts / "Flickr8k.lemma.token.txt").write_text("".join(lines).lower())
    (texts / "Flickr_8k.trainImages.txt").write_text("d.jpg\n")
    (texts / "Flickr_8k.devImages.txt").write_text("c.jpg\n")
    (texts / "Flickr_8k.testImages.txt").write_text("b.jpg\na.jpg\n")
    (texts / "ExpertAnnotations.txt").write_text("a.jpg\tb.jpg#2\t1\t1\t1\n")
    (texts / "readme.txt").write_text("Please cite this.\n")
    pictures(tmp_path / "Flicker8k_Dataset", *(f"{n}.jpg" for n in "abcd"))
    return texts


def test_tokens_with_lists(flickr8k: Path) -> None:
    found = load_captions(flickr8k)
    assert (found.name, found.split) == ("flickr8k", "test")
    assert list(said(found)) == ["b.jpg", "a.jpg"]  # as the list has them
    assert said(found)["a.jpg"][1] == "A a , number 1 ."
    assert found == load_captions(flickr8k / "Flickr8k.token.txt")
    for name in ("val", "dev"):
        assert load_captions(flickr8k, name).split == "dev"
        assert list(said(load_captions(flickr8k, name))) == ["c.jpg"]
    assert len(load_captions(flickr8k, EVERY_SPLIT).images) == 4
    refused(flickr8k, "no split 'x'; splits in this file: dev, test, train", "x")


def test_tokens_of_flickr30k(tmp_path: Path) -> None:
    lines = [f"{n}.jpg#{c}\tA {n}\r\n" for n in (10, 20, 30) for c in range(5)]
    (tmp_path / "results_20130124.token").write_text("".join(lines), newline="")
    pictures(tmp_path / "flickr30k-images", "10.jpg", "20.jpg", "30.jpg")
    found = load_captions(tmp_path)
    assert (found.name, found.split, len(found.images)) == ("flickr30k", None, 3)
    assert said(found)["10.jpg"] == ["A 10"] * 5
    (tmp_path / "test.txt").write_text("20\n")  # without a suffix, as Flickr30k Entities has it
    assert list(said(load_captions(tmp_path))) == ["20.jpg"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Flickr_8k.testImages.txt", "", "testImages.txt: the split test is empty"),
        ("Flickr_8k.testImages.txt", "z.jpg\n", "z.jpg has no caption in Flickr8k.token.txt"),
        ("Flickr_8k.testImages.txt", "d.jpg\n", "d.jpg is in another split too"),
        ("Flickr_8k.testImages.txt", "a.jpg\na.jpg\n", "the image 'a.jpg' occurs twice"),
        ("more.test.txt", "a.jpg\n", "a second list of the split test"),
        ("Flickr8k.token.txt", "a.jpg#0\tx\na.jpg#0\ty\n", "the caption 'a.jpg#0' occurs twice"),
        ("Flickr8k.token.txt", "a.jpg#0\tx\na.jpg y\n", "line 2 is not `name.jpg#0<TAB>caption`"),
        ("Flickr8k.token.txt", "a.jpg#0\tx\na.jpg#1\t \n", "line 2 is not"),
        ("Flickr8k.token.txt", "", "no captions in a layout known here; looked for Karpathy's"),
    ],
)
def test_broken_tokens(flickr8k: Path, file: str, text: str, message: str) -> None:
    (flickr8k / file).write_text(text)
    refused(flickr8k / "Flickr8k.token.txt", message)


def test_tokens_of_missing_pictures(flickr8k: Path) -> None:
    (flickr8k.parent / "Flicker8k_Dataset/a.jpg").unlink()
    refused(flickr8k, "1 of 2 images are missing, the first is .*a.jpg; looked in images,")


def test_tokens_that_are_not_utf8(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k.token.txt").write_bytes(b"a.jpg#0\tx\na.jpg#1\t\xff\n")
    refused(flickr8k, "Flickr8k.token.txt: not UTF-8 at byte 18")


# Tables


def table(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, newline="")
    pictures(folder / "Images", "1.jpg", "2.jpg")
    return file


def test_kaggle_results(tmp_path: Path) -> None:
    folder = tmp_path / "flickr30k_images"
    folder.mkdir()
    lines = [
        "image_name| comment_number| comment",
        '1.jpg| 0| Two " men , near a | fence .',
        "1.jpg| 1| One man .",
        "2.jpg| 0| A dog .",
        "2.jpg| 4   A dog runs across the grass .",  # one line of the original is so
    ]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    pictures(folder / "flickr30k_images", "1.jpg", "2.jpg")
    found = load_captions(folder)
    assert (found.name, found.split) == ("flickr30k_images", None)
    assert said(found) == {
        "1.jpg": ['Two " men , near a | fence .', "One man ."],
        "2.jpg": ["A dog .", "A dog runs across the grass ."],
    }


def test_kaggle_captions(tmp_path: Path) -> None:
    text = 'image,caption\n1.jpg,A child .\n1.jpg,"Red , and ""blue"" ."\n2.jpg,A dog .\n'
    table(tmp_path, "captions.txt", text)
    found = load_captions(tmp_path)
    assert said(found) == {"1.jpg": ["A child .", 'Red , and "blue" .'], "2.jpg": ["A dog ."]}
    assert found.name == tmp_path.name


def test_clip_benchmark(tmp_path: Path) -> None:
    text = 'image,caption\n1.jpg,A man, in fog, waits.\n1.jpg,"Stop" is on it\n2.jpg,A dog\n'
    table(tmp_path, "flickr30k_test_karpathy.txt", text)
    found = load_captions(tmp_path)
    assert (found.name, found.split) == ("flickr30k", "test")
    assert said(found) == {
        "1.jpg": ["A man, in fog, waits.", '"Stop" is on it'],
        "2.jpg": ["A dog"],
    }


def test_csv_with_lists_and_splits(tmp_path: Path) -> None:
    rows = [
        "raw,sentids,split,filename,img_id",
        '"[""One."", ""Two.""]","[0, 1]",test,1.jpg,0',
        '"[""Three.""]",[2],train,2.jpg,1',
    ]
    table(tmp_path, "flickr_annotations_30k.csv", "\r\n".join(rows) + "\r\n")
    assert said(load_captions(tmp_path)) == {"1.jpg": ["One.", "Two."]}
    assert said(load_captions(tmp_path, "train")) == {"2.jpg": ["Three."]}


def test_tsv(tmp_path: Path) -> None:
    file = table(tmp_path, "mine.tsv", 'title\tfilepath\n"a ""b""\tc"\t1.jpg\nd, e\t2.jpg\n')
    assert said(load_captions(file)) == {"1.jpg": ['a "b"\tc'], "2.jpg": ["d, e"]}
    assert load_captions(file).name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\n", "mine.csv: lists no images"),
        ("image,caption\n1.jpg,\n", "line 2: the caption is not a text or empty"),
        ("image,caption\n,x\n", "line 2: the name of the image is not a text or empty"),
        ("caption,image\nx,1.jpg\nx,y,1.jpg\n", "line 3: 3 cells where the header has 2"),
        ('caption,image\n"x,1.jpg\n', "line 3: unexpected end of data"),
        ("image,caption,split\n1.jpg,x,test\n1.jpg,y,val\n", "line 3: 1.jpg is in two splits"),
        ("image_name|comment_number|comment\n1.jpg|0|x\n1.jpg|0|y\n", "'1.jpg 0' occurs twice"),
        ("image_name|comment_number|comment\n1.jpg|0\n", "line 2: 2 cells where"),
        ("image,caption\n1.jpg,x\n3.jpg,y\n", "1 of 2 images are missing, the first is .*3.jpg"),
        ("picture,words\n1.jpg,x\n", "no captions in a layout known here; looked for Karpathy's"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    refused(table(tmp_path, "mine.csv", text), message)


# WebDataset


def test_shards_of_texts_and_notes(tmp_path: Path) -> None:
    shard(tmp_path / "set-001.tar", {"c.png": b"3", "c.json": b'{"caption": "of c", "n": 1}'})
    first = {
        "a.jpg": b"1",
        "a.txt": b"one\n\ntwo \n",
        "x/b.jpg": b"2",
        "x/b.txt": b"not this",
        "x/b.json": b'{"captions": ["this", "and this"]}',
    }
    shard(tmp_path / "set-000.tar", first)
    expected = {"a": ["one", "two"], "b": ["this", "and this"], "c": ["of c"]}
    for source in (tmp_path, tmp_path / "set-*.tar"):
        found = load_captions(source)
        assert (said(found), found.split) == (expected, None)
    images = found.images
    assert [image.inside and image.inside.read() for image in images] == [b"1", b"2", b"3"]
    opened = images[0].source()
    assert not isinstance(opened, Path) and opened.name == str(tmp_path / "set-000.tar/a")
    assert list(said(load_captions(tmp_path / "set-001.tar"))) == ["c"]
    assert load_captions(tmp_path).name == tmp_path.name
    assert load_captions(tmp_path / "set-*.tar").name == "set"
    assert not has_captions(tmp_path)


def test_shards_of_splits(tmp_path: Path) -> None:
    for split, key in {"test": "a", "val": "b", "train": "c"}.items():
        members = {f"{key}.jpg": b"1", f"{key}.txt": b"words"}
        shard(tmp_path / "named" / f"coco-{split}-000.tar", members)
        shard(tmp_path / "coco" / split / "0.tar", members)
    for source in (tmp_path / "named", tmp_path / "coco"):
        assert (load_captions(source).split, list(said(load_captions(source)))) == ("test", ["a"])
        assert list(said(load_captions(source, "train"))) == ["c"]
        refused(source, "no split 'x'; splits in this file: test, train, val", "x")
    assert load_captions(tmp_path / "coco").name == "coco"
    assert load_captions(tmp_path / "coco/val").split == "val"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no key.jpg with a key.txt or key.json"),
        ({"a.txt": b"x"}, "the key a has no image"),
        ({"a.jpg": b"1"}, "images without a caption: 1, the first is .*set.tar/a"),
        ({"a.jpg": b"1", "a.json": b'{"url": "x"}'}, "images without a caption: 1"),
        ({"a.jpg": b"1", "a.png": b"1"}, "the key a has two members for its image"),
        ({"a.jpg": b"1", "a.json": b"{"}, "set.tar: the .json at byte .* is not JSON"),
        ({"a.jpg": b"1", "a.txt": b"\xff"}, "set.tar: the text at byte .* is not UTF-8"),
    ],
)
def test_broken_shards(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    refused(shard(tmp_path / "set.tar", members), message)


def test_shards_that_are_none(tmp_path: Path) -> None:
    path = shard(tmp_path / "set.tar", {"a.jpg": b"1" * 2000, "a.txt": b"x"})
    path.write_bytes(path.read_bytes()[:1000])
    refused(path, "set.tar: (not a whole tar|truncated)")
    path.write_bytes(b"no tar" * 200)
    refused(path, "set.tar: not a whole tar")
    refused(tmp_path / "x-*.tar", "no shards: nothing matches")
    refused(tmp_path / "x.tar", "no such file or folder")


# Which file of a folder


def test_what_is_a_caption_set_and_nothing_else(flickr8k: Path, tmp_path: Path) -> None:
    assert has_captions(flickr8k)
    (tmp_path / "dog.txt").write_text("image,caption\n")
    pictures(tmp_path, "dog.jpg")
    (tmp_path / "inventory.csv").write_text("file,title\n1.jpg,x\n")
    assert not has_captions(tmp_path)
    refused(tmp_path, "1 of 1 images are missing")


def test_several_files_are_named(tmp_path: Path) -> None:
    table(tmp_path, "a.csv", "image,caption\n1.jpg,x\n")
    table(tmp_path, "b.csv", "image,caption\n1.jpg,y\n")
    refused(tmp_path, "several caption files, name one of them: a.csv, b.csv")
    assert said(load_captions(tmp_path / "b.csv")) == {"1.jpg": ["y"]}


def test_fewer_captions(tmp_path: Path) -> None:
    table(tmp_path, "a.csv", "image,caption\n1.jpg,x\n1.jpg,y\n1.jpg,z\n2.jpg,w\n")
    assert said(load_captions(tmp_path).shortened(2)) == {"1.jpg": ["x", "y"], "2.jpg": ["w"]}
