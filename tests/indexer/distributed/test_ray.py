"""`index --ray`: the same library, embedded by other processes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="needs pip install 'rwkvsearch[ray]'")
pytestmark = pytest.mark.server

COMMAND = str(Path(sys.executable).parent / "rwkvsearch")


def start(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )


def run(*words: str | Path) -> tuple[int, str, str]:
    process = start(*words)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def paint(folder: Path, first: int, after: int) -> None:
    for seed in range(first, after):
        colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((80, 60)).save(folder / f"{seed:02}.jpg")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty of them, two with the same content, and one that is cut off."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paint(folder, 0, 40)
    (folder / "40.jpg").write_bytes((folder / "00.jpg").read_bytes())
    (folder / "41.jpg").write_bytes((folder / "01.jpg").read_bytes()[:400])
    return folder


def embeddings(library: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(library / "library.sqlite")) as database:
        return dict(
            database.execute(
                "SELECT content_hash, data FROM images JOIN embeddings ON image_id = images.id"
            )
        )


def test_the_library_is_the_same(pictures: Path, tmp_path: Path) -> None:
    by_ray, plain = tmp_path / "by_ray", tmp_path / "plain"
    (pictures / "00.txt").write_text("some squares", "utf-8")
    words = ("--batch-size=8", "--ray", pictures, "--library", by_ray)
    code, out, err = run("index", "--ray-actors=2", *words)
    assert code == 0, err
    assert "42 files: 40 embedded" in out
    assert f"skipped {pictures / '41.jpg'}: " in err
    assert len(err.splitlines()) == 1  # nothing of Ray's own
    assert run("index", pictures, "--library", plain)[0] == 0
    ours, theirs = embeddings(by_ray), embeddings(plain)
    assert ours.keys() == theirs.keys() and len(ours) == 40
    for key, data in ours.items():
        pair = np.frombuffer(data, "<f2"), np.frombuffer(theirs[key], "<f2")
        assert np.allclose(*pair, atol=1e-3)
    code, out, _ = run("index", "--ray", "auto", "--library", by_ray)
    assert code == 0 and "41 unchanged" in out  # nothing to do, so no cluster is looked for


def test_a_team_library_is_filled(pictures: Path, team_address: str) -> None:
    code, out, err = run("index", "--ray", pictures, "--library", team_address)
    assert code == 0, err
    assert "42 files: 40 embedded" in out
    code, out, _ = run("stats", "--json", "--library", team_address)
    assert code == 0
    assert json.loads(out)["models"][0]["embeddings"] == 40


def test_ctrl_c_keeps_what_is_done(pictures: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    paint(pictures, 100, 900)  # enough for seconds
    process = start("index", "--ray", pictures, "--batch-size=1", "--library", library)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (library / "library.sqlite").exists() and _count(library):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("stopped; what is done is kept")
    assert _count(library) >= 1
    code, out, _ = run("index", pictures, "--library", library)
    assert code == 0
    assert len(embeddings(library)) == 840


def test_no_cluster_is_one_line(pictures: Path, tmp_path: Path) -> None:
    words = (pictures, "--library", tmp_path / "library")
    for address, said in (("auto", "no Ray runs on this machine"), ("127.0.0.1:9", "no Ray head")):
        code, _, err = run("index", "--ray", address, *words)
        assert code == 1
        assert said in err and len(err.splitlines()) == 1


def _count(library: Path) -> int:
    with closing(sqlite3.connect(library / "library.sqlite", timeout=30)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM embeddings").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
