import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.ui.cli import app

from .conftest import Run, make_picture, make_weights

LAUNCH = """
import sys
from pathlib import Path
from rwkvsearch.retrieval import models
from rwkvsearch.ui.cli import main
models._SHIPPED = Path(sys.argv.pop(1))
main()
"""


def commands(
    group: Any = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with the words that lead to it."""
    group = group or typer.main.get_command(app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def assert_one_line(run: Run, arguments: list[object], *expected: str, code: int = 1) -> None:
    """The command ends with one line on stderr that holds all of `expected`, and no result."""
    outcome = run(*arguments)
    assert outcome.code == code
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.err.startswith("rwkvsearch: ")
    assert [text for text in expected if text not in outcome.err] == []


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: str(value)[:30])
def test_every_command_and_option_has_help(path: tuple[str, ...], command: Any, run: Run) -> None:
    outcome = run(*path, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out.startswith("Usage: ")
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


def test_version_and_completion(run: Run) -> None:
    assert run("--version").out.startswith("rwkvsearch 0.")
    called = "import sys; from rwkvsearch.ui.cli import main; sys.argv[0] = 'rwkvsearch'; main()"
    command = [sys.executable, "-c", called]
    source = os.environ | {"_RWKVSEARCH_COMPLETE": "source_bash"}
    shown = subprocess.run(command, env=source, capture_output=True, text=True)
    assert "_RWKVSEARCH_COMPLETE=complete_bash" in shown.stdout
    asked = {"_RWKVSEARCH_COMPLETE": "complete_bash", "COMP_WORDS": "x qu", "COMP_CWORD": "1"}
    completed = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True)
    assert completed.stdout.split() == ["query"]


def test_help_is_light() -> None:
    helped = (
        "import atexit, sys; from rwkvsearch.ui.cli import main; sys.argv = ['x', '--help'];"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    run = subprocess.run([sys.executable, "-c", helped], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    heavy = {"PIL", "faiss", "gradio", "numba", "numpy", "rich", "sqlalchemy", "torch"}
    assert "typer" in loaded
    assert loaded & heavy == set()
    command = [sys.executable, "-m", "rwkvsearch.ui.cli"]
    assert cpu_seconds(command) - cpu_seconds([sys.executable, "-c", "import typer"]) < 0.25


def cpu_seconds(command: list[str]) -> float:
    """The least of three runs."""

    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(measure() for _ in range(3))


def test_index_again_embeds_nothing(photos: Path, home: Path, run: Run) -> None:
    first, again = run("index", photos), run("index", photos)
    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith("8 files: 8 embedded; ")
    assert again.out.startswith("8 files: 8 unchanged; ")
    assert again.out.splitlines()[1] == f"library: {home}"
    assert first.err == again.err == ""


def test_query_by_picture_finds_it(indexed: Path, run: Run) -> None:
    outcome = run("query", "--image", indexed / "3.png", "-k", 3, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert answer["hits"][0]["path"] == str(indexed / "3.png")
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["query"] is None
    assert answer["model"].startswith("starter-")


def test_query_by_words_is_the_same_in_every_form(indexed: Path, run: Run) -> None:
    answer = json.loads(run("query", "a dog", "--json").out)
    paths = [hit["path"] for hit in answer["hits"]]
    assert answer["query"] == "a dog"
    assert sorted(paths) == sorted(map(str, indexed.iterdir()))
    assert run("query", "a dog", "--paths").out.splitlines() == paths
    table = run("query", "a dog").out.splitlines()
    assert table[0].split() == ["rank", "score", "confidence", "path"]
    assert [line.split()[3] for line in table[1:]] == paths


def test_library_option_and_stats(photos: Path, tmp_path: Path, home: Path, run: Run) -> None:
    library = tmp_path / "elsewhere"
    (photos / "bad.png").write_text("no picture")
    assert run("index", photos, "--library", library).code == 0
    assert not home.exists()
    stats = json.loads(run("stats", "--library", library, "--json").out)
    assert (stats["images"], stats["files"], stats["errors"]) == (8, 8, 1)
    assert stats["errors_by_reason"] == {"not an image": 1}
    assert [(model["dim"], model["embeddings"]) for model in stats["models"]] == [(32, 8)]
    assert "8 different pictures in 8 files" in run("stats", "--library", library).out


def test_models(run: Run) -> None:
    listed = {line.split()[0]: line for line in run("model", "list").out.splitlines()}
    assert " installed" in listed["starter"]
    assert "not installed" in listed["b32-yfcc15m"]
    about = run("model", "info").out
    assert "made by a test" in about
    assert "32 px, 16 patches of 8 px" in about


def make_bad_folder(folder: Path) -> tuple[set[bytes], dict[str, str]]:
    """Fill `folder`; the names of the good pictures, and the reason of each bad one."""
    names = [b"two words.png", "\U0001f436.png".encode(), b"new\nline.png", b"bad\xff\xfe.png"]
    for seed, name in enumerate(names):
        make_picture(folder / os.fsdecode(name), seed)
    Image.radial_gradient("L").save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("this is a text")
    Image.new("1", (20_000, 10_001)).save(folder / "bomb.png")
    make_picture(folder / "secret.png", 99).chmod(0)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    reasons = {
        "truncated.jpg": "truncated file",
        "empty.jpg": "empty file",
        "text.png": "not an image",
        "bomb.png": "too large: 200 megapixels (limit 128, raise with --max-megapixels)",
        "secret.png": "permission denied",
    }
    return {*names, b"whole.jpg"}, reasons


@pytest.fixture
def unprivileged() -> Iterator[Callable[[bool], None]]:
    """Run as nobody, given True, where the suite runs as root, which may read every file."""
    Encoder.load()  # imports late what nobody may not be able to read

    def change(wanted: bool) -> None:
        if os.getuid() == 0:
            os.seteuid(65534 if wanted else 0)

    try:
        change(True)
        for needed in (__file__, torch.__file__):
            if not os.access(needed, os.R_OK, effective_ids=True):
                pytest.skip(f"running as root, and nobody cannot read {needed}")
        change(False)
        yield change
    finally:
        change(False)


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that also nobody can reach and write to."""
    folder = Path(tempfile.mkdtemp(prefix="rwkvsearch-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_bad_files_are_named_once_and_stop_nothing(
    open_folder: Path,
    weights: Path,
    unprivileged: Callable[[bool], None],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(weights, open_folder / "weights")
    for path in [open_folder / "weights", *(open_folder / "weights").rglob("*")]:
        path.chmod(0o755)
    unprivileged(True)
    monkeypatch.setattr("rwkvsearch.retrieval.models._SHIPPED", open_folder / "weights")
    folder = open_folder / "photos"
    folder.mkdir()
    good, reasons = make_bad_folder(folder)
    library = open_folder / "library"
    outcome = run("index", folder, "--library", library)
    assert outcome.code == 0
    assert outcome.out.startswith("10 files: 5 embedded, 5 skipped; ")
    assert sorted(outcome.err.splitlines()) == sorted(
        f"skipped {folder / name}: {reason}" for name, reason in reasons.items()
    )
    paths = run("query", "a dog", "--paths", "--library", library).out
    expected = {os.fsencode(folder) + b"/" + name + b"\n" for name in good}
    assert len(paths.encode(errors="surrogateescape")) == sum(map(len, expected))
    assert all(path.decode(errors="surrogateescape") in paths for path in expected)
    table = run("query", "a dog", "--library", library).out
    assert len(table.splitlines()) == 6
    assert "new\\nline.png" in table and "bad\\udcff\\udcfe.png" in table
    hits = json.loads(run("query", "a dog", "--json", "--library", library).out)["hits"]
    assert {os.fsencode(Path(hit["path"]).name) for hit in hits} == good


@pytest.mark.parametrize("as_library", [True, False])
def test_library_that_cannot_be_written(
    open_folder: Path,
    as_library: bool,
    run: Run,
    unprivileged: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Encoder.load()
    unprivileged(True)
    monkeypatch.setattr(Encoder, "load", lambda name, device=None: encoder)
    make_picture(open_folder / "photos/1.png", 1)
    (open_folder / "closed").mkdir(0o555)
    home = open_folder / "closed" if as_library else open_folder / "closed/home"
    monkeypatch.setenv("RWKVSEARCH_HOME", str(home))
    assert_one_line(run, ["index", open_folder / "photos"], str(home))


def test_wrong_paths(photos: Path, tmp_path: Path, run: Run) -> None:
    assert_one_line(run, ["index", tmp_path / "nope"], "nope: no such file or folder")
    (tmp_path / "void").mkdir()
    assert_one_line(run, ["index", tmp_path / "void"], "void: no images found", ".jpeg")
    (tmp_path / "note.txt").write_text("a text")
    assert_one_line(run, ["index", tmp_path / "note.txt"], "note.txt: not the name of a picture")
    assert_one_line(
        run,
        ["index", photos, "--library", tmp_path / "note.txt"],
        "cannot make a library at",
        "note.txt: File exists",
        "--library",
    )
    assert_one_line(
        run, ["index", photos, "--library", tmp_path / "note.txt/x"], "Not a directory", "--library"
    )
    assert_one_line(run, ["stats", "--library", tmp_path / "note.txt/x"], "no library at")


def test_a_bad_picture_asked_for_by_name_fails_every_time(tmp_path: Path, run: Run) -> None:
    (tmp_path / "fake.png").write_text("a text")
    for _ in range(2):
        outcome = run("index", tmp_path / "fake.png")
        assert outcome.code == 1
        assert outcome.err == f"skipped {tmp_path / 'fake.png'}: not an image\n"


def test_query_before_index(tmp_path: Path, run: Run) -> None:
    assert_one_line(run, ["query", "dog"], "no library at", "rwkvsearch index PATH")
    (tmp_path / "void").mkdir()
    run("index", tmp_path / "void")
    assert_one_line(run, ["query", "dog"], "is empty", "rwkvsearch index PATH")


def test_wrong_queries(indexed: Path, tmp_path: Path, run: Run) -> None:
    assert_one_line(run, ["query", " "], "the query is empty")
    assert_one_line(run, ["query", "--image", tmp_path / "x.jpg"], "x.jpg: file not found")
    (tmp_path / "fake.png").write_text("a text")
    assert_one_line(run, ["query", "--image", tmp_path / "fake.png"], "fake.png: not an image")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["query"], "give words, --image FILE, or both"),
        (["query", "dog", "--k", "0"], "--k"),
        (["query", "dog", "--json", "--paths"], "give one of --json, --jsonl"),
        (["index", ".", "--batch-size", "0"], "--batch-size"),
        (["nonsense"], "No such command 'nonsense'"),
        (["bench", "classify", "--data", "x", "--template", "no place"], "'no place'"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str, run: Run) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    error = outcome.err.splitlines()[-1]
    assert error.startswith("Error: ") and expected in error
    assert "Traceback" not in outcome.err


def test_wrong_models_and_devices(indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    query = ["query", "dog"]
    assert_one_line(run, [*query, "--model", "nope"], "no model is called 'nope'", "b32-yfcc15m")
    assert_one_line(run, [*query, "--model", "b32-yfcc15m"], "rwkvsearch model pull b32-yfcc15m")
    assert_one_line(run, ["model", "info", "nope"], "no model is called 'nope'")
    for device in ("nope", "cuda:99", "meta"):
        assert_one_line(run, [*query, "--device", device], f"device '{device}'", "try `cpu`")
    monkeypatch.setenv("RWKVSEARCH_DEVICE", "wrong")
    assert_one_line(run, query, "device 'wrong'")


def damage(weights: Path, copy: Path, kind: str) -> Path:
    """Copy the weights and damage the copy; the damaged file."""
    shutil.copytree(weights, copy)
    path = copy / "starter" / ("config.json" if "card" in kind else "model.safetensors")
    content = bytearray(path.read_bytes())
    if kind == "bit flip":
        content[len(content) // 2] ^= 1
    elif kind == "truncated":
        del content[len(content) // 2 :]
    elif kind == "card not json":
        del content[-5:]
    else:
        content = bytearray(content.replace(b'"head_size_divisor": 8', b'"other": 8'))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["bit flip", "truncated", "card not json", "card of another age"])
def test_damaged_model(
    kind: str, weights: Path, photos: Path, tmp_path: Path, run: Run, monkeypatch: Any
) -> None:
    path = damage(weights, tmp_path / "damaged", kind)
    monkeypatch.setattr("rwkvsearch.retrieval.models._SHIPPED", tmp_path / "damaged")
    assert_one_line(run, ["index", photos], str(path))


def test_library_of_another_model(
    indexed: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rwkvsearch.retrieval.models._SHIPPED", make_weights(tmp_path / "other", "other")
    )
    assert_one_line(
        run, ["query", "dog"], "this library was indexed with starter-", "not with starter-"
    )


@pytest.mark.parametrize("content", [b"this is no database, but long enough" * 30, None])
def test_damaged_library(content: bytes | None, indexed: Path, home: Path, run: Run) -> None:
    database = home / "library.sqlite"
    whole = database.read_bytes()
    database.write_bytes(content or whole[:4096] + bytes(len(whole) - 4096))
    assert_one_line(run, ["query", "dog"], str(database), "move it away and index again")


def test_faiss_missing(indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    for arguments in (["index", indexed], ["query", "dog"]):
        assert_one_line(run, arguments, "faiss is not installed: pip install")


def test_full_disk(tmp_path: Path, run: Run) -> None:
    for seed in range(60):
        make_picture(tmp_path / "many" / f"{seed}.png", seed)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        assert_one_line(
            run, ["index", tmp_path / "many", "--batch-size", 4], "no space left", "same command"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    outcome = run("index", tmp_path / "many")
    assert outcome.code == 0
    assert json.loads(run("stats", "--json").out)["images"] == 60


def test_result_that_cannot_be_written(indexed: Path, run: Run) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    probe = "import sys; sys.stdout = open('/dev/full', 'w'); from rwkvsearch.ui.cli import main;"
    command = [sys.executable, "-c", f"{probe} sys.argv = ['x', 'model', 'list']; main()"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
    assert "rwkvsearch: [Errno 28] No space left on device" in outcome.stderr
    assert "Traceback" not in outcome.stderr.split("Exception ignored")[0]


def test_closed_pipe() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rwkvsearch.ui.cli", "model", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(
    number: signal.Signals, weights: Path, tmp_path: Path, home: Path, run: Run
) -> None:
    total = 600
    for seed in range(total):
        make_picture(tmp_path / "many" / f"{seed}.png", seed)
    command = [sys.executable, "-c", LAUNCH, weights, "index", tmp_path / "many"]
    with subprocess.Popen(
        [*command, "--batch-size", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_images(home, 3, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode == 128 + number
    assert err == "stopped; what is done is kept, run the same command to go on\n"
    with Library.open(home) as library:
        done = library.stats().images
    assert 3 <= done < total
    assert run("index", tmp_path / "many").out.startswith(
        f"{total} files: {total - done} embedded, {done} unchanged; "
    )


def wait_for_images(home: Path, number: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the library holds `number` images."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            with Library.open(home) as library:
                if library.stats().images >= number:
                    return
        except LibraryError:
            pass
        time.sleep(0.02)
    pytest.fail(f"only ended or slow: {process.poll()}")


def test_pull(tmp_path: Path, weights: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    official = ["model", "pull", "b32-yfcc15m"]
    assert_one_line(run, ["model", "pull", "starter"], "starter ships in the package")
    assert_one_line(run, ["model", "pull", "nope"], "no model is called 'nope'")
    (tmp_path / "note.txt").write_text("a text")
    assert_one_line(run, [*official, "--from", tmp_path / "note.txt"], "note.txt: damaged or not")
    assert_one_line(run, [*official, "--from", tmp_path / "no.pt"], "no.pt: ", "No such file")
    misfit = weights / "starter/model.safetensors"
    assert_one_line(run, [*official, "--from", misfit], str(misfit), "do not fit the model")

    hub = pytest.importorskip("huggingface_hub")

    def offline(*_arguments: object, **_options: object) -> None:
        raise ConnectionError("the network cannot be reached\nmore lines")

    monkeypatch.setattr(hub.HfApi, "model_info", offline)
    assert_one_line(
        run, official, "cannot fetch model_31.pt of", "cannot be reached", "--from FILE"
    )


@pytest.fixture
def captions(photos: Path) -> Path:
    """A Karpathy file for the eight pictures, half of them in the test split."""
    listed = [
        {
            "filename": path.name,
            "imgid": n,
            "split": "test" if n < 4 else "train",
            "sentences": [{"raw": f"picture {n}"}, {"raw": f"another picture {n}"}],
        }
        for n, path in enumerate(sorted(photos.iterdir()))
    ]
    photos.rename(photos.parent / "images")
    file = photos.parent / "dataset_tiny.json"
    file.write_text(json.dumps({"dataset": "tiny", "images": listed}), encoding="utf-8")
    return file


def test_bench_recall(captions: Path, run: Run) -> None:
    outcome = run("bench", "recall", "--data", captions.parent, "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert (result["images"], result["captions"]) == (4, 8)
    for direction in ("text_to_image", "image_to_text"):
        assert list(result[direction]) == ["R@1", "R@5", "R@10"]
        assert all(0 <= value <= 100 for value in result[direction].values())
    assert result["text_to_image"]["R@5"] == 100
    assert "text -> image" in run("bench", "recall", "--data", captions).out
    assert_one_line(
        run, ["bench", "recall", "--data", captions, "--split", "dev"], "'dev'", "test, train"
    )
    assert_one_line(run, ["bench", "recall", "--data", "nope.json"], "nope.json: no such file")
    captions.write_text("{")
    assert_one_line(run, ["bench", "recall", "--data", captions], f"{captions}: not JSON")


def test_bench_classify(photos: Path, tmp_path: Path, run: Run) -> None:
    shard = tmp_path / "set-000.tar"
    with tarfile.open(shard, "w") as archive:
        for n, path in enumerate(sorted(photos.iterdir())):
            (tmp_path / "label.txt").write_text(f"class {n % 6}")
            archive.add(path, f"{n}.png")
            archive.add(tmp_path / "label.txt", f"{n}.txt")
    outcome = run("bench", "classify", "--data", tmp_path / "set-*.tar", "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert (result["images"], result["classes"]) == (8, 6)
    assert 0 <= result["top1"] <= result["top5"] <= 100
    assert "top-1" in run("bench", "classify", "--data", shard, "--template", "one {}").out
    assert_one_line(run, ["bench", "classify", "--data", tmp_path / "x-*.tar"], "no shards")
    shard.write_bytes(shard.read_bytes()[:700])
    assert_one_line(run, ["bench", "classify", "--data", shard], str(shard))


def test_a_mistyped_folder_leaves_no_library(tmp_path: Path, run: Run) -> None:
    arguments = ["index", tmp_path / "nothing", "--library", tmp_path / "new"]
    assert_one_line(run, arguments, "nothing", "no such file or folder")
    assert not (tmp_path / "new").exists()


def test_index_goes_on_with_the_model_of_the_library(
    indexed: Path, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "rwkvsearch.retrieval.choose.choose_model",
        lambda *_: asked.append(1) or ("b64", "fp32"),
    )
    assert_one_line(run, ["index", photos], "no model is called 'b64'")
    assert asked


def test_a_template_with_other_braces(run: Run, tmp_path: Path) -> None:
    arguments = ["bench", "classify", "--data", tmp_path, "--template", "{} {x}"]
    assert_one_line(run, arguments, "no labelled set")
