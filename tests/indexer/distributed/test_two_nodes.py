"""An actor and a node are killed midway: every good picture is embedded once, the bad one named."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="needs pip install 'rwkvsearch[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.server]

PROGRAM = Path(__file__).with_name("two_nodes.py")
PICTURES = 2000


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(PICTURES):
        colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((320, 240)).save(folder / f"{seed:04}.jpg")
    bad = folder / "1000.jpg"
    bad.write_bytes(bad.read_bytes()[:1500])
    return folder


def test_an_actor_and_a_node_die(pictures: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("two_nodes", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["two_nodes"] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    if why := module.can_run():
        pytest.skip(why)
    command = [sys.executable, str(PROGRAM), str(pictures), str(tmp_path / "library")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout)
    assert ran["code"] == 0, ran["output"]
    assert 300 <= ran["actor_at"] < ran["node_at"] < PICTURES
    assert (ran["files"], ran["images"], ran["embeddings"]) == (PICTURES, 1999, 1999)
    assert f"skipped {pictures / '1000.jpg'}: truncated file" in ran["output"]
    assert "1,999 embedded, 1 skipped" in ran["output"]
