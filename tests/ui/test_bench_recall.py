"""`bench recall` as a person runs it, on one set in the layouts of several others."""

import io
import json
import re
import shutil
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.captions import CaptionedImage, CaptionSet
from rwkvsearch.retrieval.ranks import bootstrap, figures, rank_pairs
from rwkvsearch.retrieval.recall import RecallResult, Scaled
from rwkvsearch.ui.recalls import (
    Beside,
    MeasuredRecall,
    beside,
    recall_as_text,
    recall_object,
)

from .conftest import Outcome, Run, make_picture

CAPTIONS = {f"{n}.png": [f"picture {n}", f"one more, {n}"][: 1 + n % 2] for n in range(6)}


def pictures(folder: Path) -> None:
    for n, name in enumerate(CAPTIONS):
        make_picture(folder / name, n)


def karpathy(folder: Path) -> Path:
    listed = [
        {
            "filename": name,
            "imgid": n,
            "split": "test",
            "sentences": [{"raw": text, "tokens": [], "imgid": n} for text in texts],
        }
        for n, (name, texts) in enumerate(CAPTIONS.items())
    ]
    pictures(folder / "images")
    (folder / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": listed}))
    return folder


def coco(folder: Path) -> Path:
    images = [{"id": n, "file_name": name} for n, name in enumerate(CAPTIONS)]
    said = [(n, text) for n, texts in enumerate(CAPTIONS.values()) for text in texts]
    notes = [{"id": i, "image_id": n, "caption": text} for i, (n, text) in enumerate(said)]
    pictures(folder / "val2017")
    (folder / "annotations").mkdir()
    document = {"info": {}, "images": images, "annotations": notes}
    (folder / "annotations/captions_val2017.json").write_text(json.dumps(document))
    return folder


def albef(folder: Path) -> Path:
    listed = [{"image": f"flickr30k-images/{n}", "caption": c} for n, c in CAPTIONS.items()]
    pictures(folder / "flickr30k-images")
    (folder / "flickr30k_test.json").write_text(json.dumps(listed))
    return folder


def tokens(folder: Path) -> Path:
    lines = [f"{n}#{i}\t{text}\n" for n, c in CAPTIONS.items() for i, text in enumerate(c)]
    pictures(folder / "flickr30k-images")
    (folder / "results_20130124.token").write_text("".join(lines))
    return folder


def table(folder: Path) -> Path:
    lines = [f'{name},"{text}"\n' for name, texts in CAPTIONS.items() for text in texts]
    pictures(folder / "Images")
    (folder / "captions.csv").write_text("image,caption\n" + "".join(lines))
    return folder


def shards(folder: Path) -> Path:
    pictures(folder)
    with tarfile.open(folder / "tiny-test-000.tar", "w") as archive:
        for name, texts in CAPTIONS.items():
            archive.add(folder / name, name)
            content = "\n".join(texts).encode()
            member = tarfile.TarInfo(name.replace("png", "txt"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder / "tiny-test-*.tar"


LAYOUTS = (karpathy, coco, albef, tokens, table, shards)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    return karpathy(folder)


def measured(run: Run, *arguments: object) -> dict[str, Any]:
    outcome = run("bench", "recall", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def one_line(outcome: Outcome, code: int, *parts: str) -> None:
    assert (outcome.code, outcome.out) == (code, "")
    assert code == 2 or len(outcome.err.splitlines()) == 1
    assert all(part in outcome.err for part in parts), outcome.err


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_changes_nothing(
    layout: Callable[[Path], Path], tmp_path: Path, data: Path, run: Run
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other, expected = measured(run, "--data", layout(folder)), measured(run, "--data", data)
    for values in (other, expected):
        for name in ("set", "split", "published_note"):
            del values[name]
    assert other == expected
    assert (other["images"], other["captions"], other["captions_per_image"]) == (6, 9, [1, 2])


def test_what_is_measured(data: Path, run: Run) -> None:
    found = measured(run, "--data", data, "--prefix", "a photo of ", "--folds", 2)
    assert (found["set"], found["split"], found["ties"]) == ("tiny", "test", "pessimistic")
    assert (found["precision"], found["device"], found["prefix"]) == ("fp32", "cpu", "a photo of ")
    assert found["model"].startswith("starter-") and found["model"].endswith("-fp32")
    for direction, queries in (("text_to_image", 9), ("image_to_text", 6)):
        assert list(found[direction]) == ["R@1", "R@5", "R@10"]
        ranks = found["ranks"][direction]
        assert ranks["mean_rank"] >= 1 and 0 < ranks["mrr"] <= 1
        low, high = found["interval_95"][direction]["R@1"]
        assert 0 <= low <= found[direction]["R@1"] <= high <= 100
        assert found["library"]["exact"][direction].keys() == found[direction].keys()
        assert found["scaled_decoding"][direction] == found[direction]  # of 32 pixels
        share = found[direction]["R@5"] * queries / 100
        assert share == pytest.approx(round(share), abs=0.01)
    assert found["library"]["ann"]["kind"] == "RaBitQ,Refine(SQfp16)"
    assert (found["folds"]["number"], found["folds"]["images"]) == (2, 3)
    assert found["published"] == [] and "no published row for tiny" in found["published_note"]
    fewer = measured(run, "--data", data, "--captions-per-image", 1, "--ann", "none")
    assert (fewer["captions"], fewer["captions_per_image"]) == (6, [1, 1])
    assert fewer["library"] is None and fewer["folds"] is None


def test_a_row_a_model(data: Path, run: Run, home: Path, weights: Path) -> None:
    shutil.copytree(weights / "starter", home / "models/mine")
    card = home / "models/mine/config.json"
    card.write_text(card.read_text().replace('"name": "starter"', '"name": "mine"'))
    both = measured(run, "--data", data, "--models", "starter,mine")["models"]
    assert [one["model"].split("-")[0] for one in both] == ["starter", "mine"]
    assert both[0]["text_to_image"] == both[1]["text_to_image"]
    text = run("bench", "recall", "--data", data, "--models", "starter, mine").out
    assert len(re.findall(r"^(starter|mine)-\S+-fp32, cpu, no prefix ", text, re.M)) == 4
    assert text.startswith("tiny test: 6 images, 9 captions (1 to 2 an image); recall in percent")
    one_line(run("bench", "recall", "--data", data, "--models", "mine,b64"), 1, "'b64'")
    asked = ("bench", "recall", "--data", data, "--model", "mine", "--models", "starter")
    one_line(run(*asked), 2, "--model and --models exclude each other")


def test_kept_with_what_was_asked(data: Path, run: Run, home: Path, photos: Path) -> None:
    assert run("index", photos).code == 0
    asked = ("bench", "recall", "--data", data, "--json", "--save", "--captions-per-image", 1)
    outcome = run(*asked)
    (path,) = (home / "benchmarks").iterdir()
    kept = json.loads(path.read_text())
    assert kept["results"] == json.loads(outcome.out)
    assert kept["data"]["captions"] == 6
    assert run("bench", "recall", "--data", data, "--save").code == 0
    prints = {json.loads(p.read_text())["data"]["fingerprint"] for p in path.parent.iterdir()}
    assert len(prints) == 2  # with fewer captions it is another set


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--ann", "KD-tree"], 1, ["'KD-tree' is no kind of ann"]),
        (["--ann", "IVF100,SQ8"], 1, ["IVF100,SQ8 needs at least 100 rows, not 6"]),
        (["--folds", "7"], 2, ["7 folds of 6 images"]),
        (["--captions-per-image", "0"], 2, ["captions-per-image"]),
        (["--html", "none/page.html"], 1, ["cannot write none/page.html: no folder"]),
        (["--pictures", "none"], 1, ["none: no such folder"]),
        (["--split", "dev"], 1, ["no split 'dev'; splits in this file: test"]),
    ],
)
def test_one_clear_line(
    data: Path, run: Run, arguments: list[str], code: int, parts: list[str]
) -> None:
    one_line(run("bench", "recall", "--data", data, *arguments), code, *parts)


def test_sets_that_are_none(tmp_path: Path, data: Path, run: Run) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    found = run("bench", "recall", "--data", empty)
    one_line(found, 1, "no captions here; looked for", "dataset_*.json", "captions_*.json", "*.tar")
    (data / "images/3.png").unlink()
    one_line(run("bench", "recall", "--data", data), 1, "1 of 6 images are missing", "3.png")


def test_without_faiss_or_matplotlib(
    data: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    asked = ("bench", "recall", "--data", data, "--html", page)
    one_line(run(*asked), 1, "plots need matplotlib: pip install 'rwkvsearch[plots]'")
    monkeypatch.setitem(sys.modules, "faiss", None)
    outcome = run("bench", "recall", "--data", data, "--json")
    assert outcome.err == "not measured through a library: faiss is not installed\n"
    assert json.loads(outcome.out)["library"] is None
    one_line(run("bench", "recall", "--data", data, "--ann", "SQ8"), 1, "faiss is not installed")


def test_a_page_with_plots(data: Path, run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = run("bench", "recall", "--data", data, "--html", page, "--folds", 2)
    assert (outcome.code, outcome.err) == (0, "")
    text = page.read_text()
    plots = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(plots) == 2
    for plot in plots:
        ET.fromstring(plot)
        assert "R@10" in plot or "by chance" in plot
    links = set(re.findall(r"https?://[^\"' ]+", text))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.findall(r"(?:src|href)=\"(?!#)", text)
    value = re.search(r"^starter-\S+.*?  (\d+\.\d) \[", outcome.out, re.M)
    assert value and f"<td>{value[1]} [" in text and f">{value[1]}</text>" in plots[0]
    assert "mean of 2 folds of 3 images" in text
    again = tmp_path / "again.html"
    run("bench", "recall", "--data", data, "--html", again, "--folds", 2)
    assert _without_load(again) == _without_load(page)


def _without_load(page: Path) -> str:
    text, number = re.subn(r"load [\d.]+", "", page.read_text())
    assert number == 1
    return text


def made_up() -> MeasuredRecall:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(12, 6))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    ranks = rank_pairs(images, images[::-1], np.arange(12))
    both = {ties: figures(one) for ties, one in ranks.items()}
    same = {direction: one.recall for direction, one in both["pessimistic"].items()}
    interval = bootstrap(ranks["pessimistic"])
    result = RecallResult(12, 12, (1, 1), "", both, interval, {}, {}, Scaled(same, 3))
    return MeasuredRecall("b32-yfcc15m-0a-bf16", "b32-yfcc15m", "bf16", "cuda", result)


def test_beside_published_rows() -> None:
    images = tuple(CaptionedImage(Path(f"{n}.jpg"), ("words",)) for n in range(1000))
    flickr = CaptionSet("flickr30k", "test", images)
    about, one = beside(flickr, None), made_up()
    lines = recall_as_text([one], about).splitlines()
    rows = [line for line in lines if line.startswith("published: ")]
    assert len(rows) == 10
    assert rows[0].startswith("published: RWKV-CLIP B/32, YFCC15M, the same weights")
    assert rows[0].split()[-3:] == ["57.6", "82.3", "88.7"]
    assert rows[5].split()[-3:] == ["76.0", "94.7", "97.6"]
    assert "the same weights" not in rows[1]
    found = recall_object(one, about)
    assert [row["same_weights"] for row in found["published"]] == [True] + [False] * 4
    assert found["published_note"] is None
    own = recall_as_text([replace(one, name="starter")], about)
    assert "the same weights" not in own
    assert beside(flickr, 1) == Beside(
        "flickr30k", "test", (), "the published rows of Flickr30k are of all captions of an image"
    )
