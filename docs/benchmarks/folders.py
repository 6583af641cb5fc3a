"""Whole commands on one folder of pictures: rclip, clip-retrieval and ours, from start to end.

The peers run in environments of their own, named by the path of their Python. Their weights come
from hubs; here stand random ones of the same shape, so the answers mean nothing and the times do.
"""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from report import Table, tell
from torch import nn

from rwkvsearch.retrieval.models import ModelCard, sha256_of, write_card
from rwkvsearch.retrieval.rwkv_clip.checkpoint import save_half
from rwkvsearch.retrieval.rwkv_clip.config import B32
from rwkvsearch.retrieval.speed import ClipImage, ClipText, random_model
from rwkvsearch.retrieval.speed_times import Times, ratio

ROOT = Path(__file__).parents[2]
MERGES = ROOT / "data" / "vocabulary" / "clip_bpe_merges.txt"
PICTURES = {".jpg", ".jpeg", ".png"}
OURS = ("ours, starter", "ours, B/32")
RCLIP_BATCH = 8
"""Pictures that rclip encodes at once by default; its random model is made for just so many."""
CLIP_RETRIEVAL = Path(__file__).parent / "clip_retrieval_here.py"


@dataclass(frozen=True)
class Tool:
    """One contender; in its words `{pictures}`, `{store}` and `{words}` are filled in."""

    name: str
    index: list[list[str]]
    queries: dict[str, list[str]]
    count: Callable[[Path], int]
    """How many pictures a store holds."""
    cwd: str = "{pictures}"
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda store: None
    """Called with a new store before anything is timed."""

    def run(self, words: list[str], store: Path, pictures: Path, query: str = "") -> None:
        """Run one command to its end.

        Raises:
            RuntimeError: it failed; its last words are in the message.
        """
        places = {"pictures": str(pictures), "store": str(store), "words": query}
        called = [word.format(**places) for word in words]
        added = {key: value.format(**places) for key, value in self.environment.items()}
        done = subprocess.run(
            called, cwd=self.cwd.format(**places), env=os.environ | added, capture_output=True
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"{self.name}: {said[-1] if said else 'failed in silence'}")

    def index_all(self, store: Path, pictures: Path) -> None:
        """Run the commands that index, one after the other."""
        for words in self.index:
            self.run(words, store, pictures)


def measure(
    data: Path, pictures: int, rounds: int, queries: int, peers: dict[str, str]
) -> list[Table]:
    """Files a second and seconds of a query; `peers` names the Python of `rclip` and others."""
    with TemporaryDirectory(prefix="rwkvsearch-") as place:
        folder = Path(place)
        number = choose(data, folder / "pictures", pictures)
        tools, left_out = _tools(folder, peers)
        indexed = Table(
            f"Indexing {number} pictures of {data.name}, the whole command, {rounds} rounds",
            ("", "files/s", "processor ms a file", "starter is faster", "B/32 is faster"),
            left_out=left_out,
        )
        asked = Table(
            f"A query of new words over them, the whole command, {queries} rounds",
            ("", "seconds", "processor s", "starter is faster", "B/32 is faster"),
        )
        stores = race_index(tools, folder, number, rounds, indexed)
        race_queries(tools, stores, folder / "pictures", queries, asked)
        return [indexed, asked]


def race_index(
    tools: list[Tool], folder: Path, number: int, rounds: int, table: Table
) -> dict[str, Path]:
    """Index into new stores, all in turn; the first round, with few pictures, warms up."""
    times = {tool.name: Times() for tool in tools}
    stores: dict[str, Path] = {}
    few = folder / "few"
    few.mkdir()
    for path in sorted((folder / "pictures").iterdir())[:RCLIP_BATCH]:
        _link(path, few)
    for turn in range(rounds + 1):
        for at, tool in enumerate(list(tools)):
            store = folder / f"store-{turn}-{at}"
            store.mkdir()
            pictures, expected = (folder / "pictures", number) if turn else (few, RCLIP_BATCH)
            try:
                wall, processor = _index(tool, store, pictures, expected)
            except (RuntimeError, OSError, sqlite3.Error) as error:
                if tool.name in OURS:
                    raise
                table.left_out.append(str(error))
                tools.remove(tool)
                del times[tool.name]
                continue
            tell(f"folders: round {turn}: {tool.name}: {expected} pictures in {wall:.1f} s")
            if turn:
                times[tool.name].wall.append(wall)
                times[tool.name].processor.append(processor)
            stores[tool.name] = store
    for name, found in times.items():
        busy = 1e3 * float(np.median(found.processor)) / number
        speed = number / float(np.median(found.wall))
        table.rows.append([name, speed, busy, *_ratios(times, found)])
    return stores


def _index(tool: Tool, store: Path, pictures: Path, expected: int) -> tuple[float, float]:
    tool.prepare(store)
    spent = _timed(partial(tool.index_all, store, pictures))
    if (held := tool.count(store)) != expected:
        raise RuntimeError(f"{tool.name}: {held} of {expected} pictures")
    return spent


def race_queries(
    tools: list[Tool], stores: dict[str, Path], pictures: Path, rounds: int, table: Table
) -> None:
    """Ask every store the same new words, all in turn; the first round warms up."""
    times: dict[str, Times] = {}
    for turn in range(rounds + 1):
        tell(f"folders: queries, round {turn}")
        for tool in tools:
            for name, words in tool.queries.items():
                query = f"a dog and {turn} people"
                run = partial(tool.run, words, stores[tool.name], pictures, query)
                try:
                    wall, processor = _timed(run)
                except RuntimeError as error:
                    if tool.name in OURS:
                        raise
                    table.left_out.append(str(error))
                    times.pop(f"{tool.name}{name}", None)
                    continue
                if turn:
                    kept = times.setdefault(f"{tool.name}{name}", Times())
                    kept.wall.append(wall)
                    kept.processor.append(processor)
    for name, found in times.items():
        seconds = [float(np.median(values)) for values in (found.wall, found.processor)]
        table.rows.append([name, *seconds, *_ratios(times, found)])


def _ratios(times: dict[str, Times], found: Times) -> list[float]:
    return [float(ratio(times[name].wall, found.wall)["median"]) for name in OURS]


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor by processes that have ended."""
    before, began = _children(), time.perf_counter()
    run()
    return time.perf_counter() - began, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def choose(data: Path, folder: Path, wanted: int) -> int:
    """Link the first pictures of different contents, a multiple of `RCLIP_BATCH` of them."""
    folder.mkdir()
    contents: dict[str, Path] = {}
    for found in sorted(path for path in data.rglob("*") if path.suffix.lower() in PICTURES):
        contents.setdefault(sha256(found.read_bytes()).hexdigest(), found)
        if len(contents) == wanted:
            break
    number = len(contents) // RCLIP_BATCH * RCLIP_BATCH
    for path in list(contents.values())[:number]:
        _link(path, folder)
    return number


def _link(file: Path, folder: Path) -> None:
    try:
        (folder / file.name).hardlink_to(file)
    except OSError:
        shutil.copy2(file, folder)


def _tools(folder: Path, peers: dict[str, str]) -> tuple[list[Tool], list[str]]:
    tools, left_out = list(_ours(folder)), []
    makers = {"rclip": _rclip, "clip-retrieval": _clip_retrieval}
    for name, make in makers.items():
        if name not in peers:
            left_out.append(f"{name}: name the Python it is installed for, --{name} PYTHON")
            continue
        try:
            tools.append(make(folder / name, Path(peers[name])))
        except (OSError, subprocess.CalledProcessError) as error:
            left_out.append(f"{name}: {error}")
    return tools, left_out


def _ours(folder: Path) -> Iterable[Tool]:
    home = folder / "home"
    card = ModelCard("random-b32", "", "", B32.to_dict(), "random weights", "none")
    place = home / "models" / card.name
    place.mkdir(parents=True)
    save_half(random_model(B32), place / "model.safetensors", {})
    digest = sha256_of(place / "model.safetensors")
    write_card(ModelCard(**{**vars(card), "sha256": digest}), place)
    call = [sys.executable, "-c", "from rwkvsearch.ui.main import main; main()"]
    for name, model in zip(OURS, ("starter", card.name), strict=True):
        yield Tool(
            name,
            [[*call, "index", "{pictures}", "--library", "{store}/library", "--model", model]],
            {"": [*call, "query", "{words}", "--library", "{store}/library", "--paths"]},
            lambda store: _rows(store / "library" / "library.sqlite", "embeddings"),
            environment={"RWKVSEARCH_HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        )


def _rclip(folder: Path, python: Path) -> Tool:
    """With the two ONNX files and the vocabulary where it would have downloaded them to."""
    model = folder / "ViT-B-32-256-datacomp_s34b_b86k"
    (folder / "tokenizer").mkdir(parents=True)
    model.mkdir()
    with gzip.open(folder / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz", "wt") as file:
        file.write("merges\n" + MERGES.read_text("utf-8"))
    _write_onnx(model)

    def prepare(store: Path) -> None:
        for path in folder.iterdir():
            (store / path.name).symlink_to(path)

    call = str(python.with_name("rclip"))
    index = "import os; from rclip.main import init_rclip; init_rclip(os.getcwd(), 8)"
    return Tool(
        f"rclip {_version(python, 'rclip')}",
        [[str(python), "-c", index]],  # its command cannot index without asking as well
        {"": [call, "-f", "{words}"], ", told not to look": [call, "-n", "-f", "{words}"]},
        lambda store: _rows(store / "db.sqlite3", "images"),
        environment={"RCLIP_DATADIR": "{store}"},
        prepare=prepare,
    )


def _write_onnx(folder: Path) -> None:
    """ViT-B/32 for pictures of 256 pixels and its text tower, float32 and random."""
    import onnx

    from rwkvsearch.retrieval.graphs.clip import clip_image_graph, clip_text_graph
    from rwkvsearch.retrieval.graphs.onnx_ops import OnnxOps, as_model

    image, text = ClipImage(32), ClipText()
    image.position = nn.Parameter(torch.zeros(1, 65, 768))
    ops = OnnxOps()
    clip_image_graph(ops, image, "input", RCLIP_BATCH)
    entry = ("input", np.float32, (RCLIP_BATCH, 3, 256, 256))
    onnx.save(as_model(ops, "visual", entry, "output"), folder / "visual.onnx")
    ops = OnnxOps()
    clip_text_graph(ops, text, "input")
    onnx.save(
        as_model(ops, "textual", ("input", np.int64, (1, 77)), "output"), folder / "textual.onnx"
    )


def _clip_retrieval(folder: Path, python: Path) -> Tool:
    """With a state dict in the place of OpenAI's weights; see `clip_retrieval_here.py`."""
    folder.mkdir()
    call = [str(python), str(CLIP_RETRIEVAL)]
    subprocess.run([*call, "make", "ViT-B/32"], cwd=folder, check=True, capture_output=True)
    embed = ["inference", "--input_dataset", "{pictures}", "--output_folder", "{store}/out",
             "--enable_text", "False", "--clip_model", "ViT-B/32",
             "--num_prepro_workers", str(os.cpu_count()), "--batch_size", "64"]  # fmt: skip
    index = ["index", "--embeddings_folder", "{store}/out", "--index_folder", "{store}/index"]
    query = ["filter", "--query", "{words}", "--output_folder", "{store}/found",
             "--indice_folder", "{store}/index", "--num_results", "10"]  # fmt: skip
    return Tool(
        f"clip-retrieval {_version(python, 'clip-retrieval')}",
        [[*call, *embed], [*call, *index]],
        {"": [*call, *query]},
        lambda store: sum(len(np.load(path)) for path in (store / "out").rglob("img_emb_*.npy")),
        cwd=str(folder),
    )


def _version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def _rows(database: Path, table: str) -> int:
    connection = sqlite3.connect(database)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()
