"""Installing official checkpoints: from a file, and over HTTP from a stand-in for the hub."""

import hashlib
import json
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval import pull as module
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import MODELS, is_present, read_card, sha256_of
from rwkvsearch.retrieval.pull import pull
from rwkvsearch.retrieval.rwkv_clip.checkpoint import load_tensors, to_official
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

NAME = "b32-laion10m"
SPEC = MODELS[NAME]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig) -> Path:
    """An empty home folder; B/32 has the shape of the tiny model."""
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "_SHAPES", {"B/32": tiny_config})
    return tmp_path / "home"


def assert_nothing_installed(home: Path) -> None:
    assert not is_present(SPEC)
    assert not [path for path in home.rglob("*") if path.is_file()]


class TestFromFile:
    def test_it_works(self, home: Path, checkpoint: Path) -> None:
        folder = pull(NAME, file=checkpoint)
        assert folder == home / "models" / NAME
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json",
            "model.safetensors",
        ]
        stored = to_official(load_tensors(folder / "model.safetensors"))
        for key, tensor in load_tensors(checkpoint).items():
            assert torch.equal(stored[key.removeprefix("module.")], tensor)
        assert stored["text_model.blocks.0.att.time_decay"].dtype == torch.bfloat16
        assert Encoder.load(NAME).encode_texts(["a dog"]).shape == (1, 32)

    def test_again_is_fine(self, home: Path, checkpoint: Path) -> None:
        first = pull(NAME, file=checkpoint)
        content = (first / "config.json").read_bytes()
        assert (pull(NAME, file=checkpoint) / "config.json").read_bytes() == content

    def test_wrong_weights(self, home: Path, tmp_path: Path) -> None:
        torch.save({"image_model.pos_embed": torch.zeros(1, 16, 32)}, tmp_path / "other.pt")
        with pytest.raises(ModelError, match=r"other\.pt: weights do not fit the model"):
            pull(NAME, file=tmp_path / "other.pt")
        assert_nothing_installed(home)

    def test_not_weights(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "page.pt").write_text("<html>")
        with pytest.raises(ModelError, match=r"page\.pt: damaged or not a weights file"):
            pull(NAME, file=tmp_path / "page.pt")
        assert_nothing_installed(home)

    def test_no_file(self, home: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="cannot be read: No such file"):
            pull(NAME, file=tmp_path / "no.pt")
        assert_nothing_installed(home)

    def test_a_failed_pull_keeps_what_was_installed(
        self, home: Path, checkpoint: Path, tmp_path: Path
    ) -> None:
        pull(NAME, file=checkpoint)
        (tmp_path / "page.pt").write_text("<html>")
        with pytest.raises(ModelError):
            pull(NAME, file=tmp_path / "page.pt")
        assert Encoder.load(NAME).card == read_card(NAME)

    def test_a_full_disk(self, home: Path, checkpoint: Path) -> None:
        """A limit on the size of files stands for the disk: writing fails inside safetensors."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(ModelError, match=f"{NAME}: cannot be written: .*too large"):
                pull(NAME, file=checkpoint)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert_nothing_installed(home)

    def test_a_home_that_is_a_file(self, home: Path, checkpoint: Path) -> None:
        home.write_text("")
        with pytest.raises(ModelError, match="cannot be written: Not a directory"):
            pull(NAME, file=checkpoint)

    def test_a_stop_between_the_two_files(
        self, home: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(json, "dumps", stop)
            with pytest.raises(KeyboardInterrupt):
                pull(NAME, file=checkpoint)
        assert not is_present(SPEC)
        pull(NAME, file=checkpoint)
        assert is_present(SPEC)


def test_what_ships_cannot_be_pulled(home: Path) -> None:
    with pytest.raises(ModelError, match="ships in the package; there is nothing to pull"):
        pull("starter")


def test_unknown_name(home: Path) -> None:
    with pytest.raises(ModelError, match="no model is called 'b64'"):
        pull("b64")


@dataclass
class Hub:
    """What the stand-in serves, and what it was asked for."""

    url: str
    content: bytes
    stated_sha256: str
    files: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server on the loopback that speaks the two endpoints the hub's library uses."""
    constants = pytest.importorskip("huggingface_hub.constants")
    content = checkpoint.read_bytes()
    state = Hub("", content, hashlib.sha256(content).hexdigest())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.command, self.path))
            path = self.path.split("?")[0]
            if state.status != 200:
                self.answer(state.status, b"", {})
            elif path.startswith(f"/api/models/{SPEC.repository}"):
                body = json.dumps(self.info()).encode()
                self.answer(200, body, {"Content-Type": "application/json"})
            elif path == f"/{SPEC.repository}/resolve/{COMMIT}/{SPEC.file}":
                tag = {"ETag": f'"{state.stated_sha256}"', "X-Repo-Commit": COMMIT}
                self.answer(200, state.content, tag)
            else:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def info(self) -> dict[str, object]:
            lfs = {"sha256": state.stated_sha256, "size": len(state.content), "pointerSize": 134}
            item = {"rfilename": SPEC.file, "size": len(state.content), "blobId": "0", "lfs": lfs}
            siblings = [{"rfilename": "README.md", "size": 1, "blobId": "1"}, item]
            return {"id": SPEC.repository, "sha": COMMIT, "siblings": siblings}

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        template = state.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


class TestFromHub:
    def test_it_works(self, home: Path, hub: Hub) -> None:
        pull(NAME)
        card = read_card(NAME)
        assert card.source == (
            f"{SPEC.repository}, revision {COMMIT}, {SPEC.file}, sha256 {hub.stated_sha256}"
        )
        assert Encoder.load(NAME).model_id == f"{NAME}-{card.sha256[:8]}-fp32"
        assert any(path.lower().endswith("?blobs=true") for _, path in hub.asked)
        assert ("GET", f"/{SPEC.repository}/resolve/{COMMIT}/{SPEC.file}") in hub.asked

    def test_a_named_revision(self, home: Path, hub: Hub) -> None:
        pull(NAME, revision="v1")
        wanted = f"/api/models/{SPEC.repository}/revision/v1?"
        assert any(path.startswith(wanted) for _, path in hub.asked)
        assert f"revision {COMMIT}" in read_card(NAME).source

    def test_another_content_than_stated(self, home: Path, hub: Hub) -> None:
        hub.content = hub.content[:-1] + b"?"
        found = hashlib.sha256(hub.content).hexdigest()
        with pytest.raises(ModelError) as caught:
            pull(NAME)
        assert str(caught.value) == (
            f"{SPEC.repository}: {SPEC.file} has sha256 {found}, the hub states {hub.stated_sha256}"
        )
        assert_nothing_installed(home)

    def test_the_right_hash_of_the_wrong_weights(
        self, home: Path, hub: Hub, tmp_path: Path
    ) -> None:
        torch.save({"logit_scale": torch.ones(())}, tmp_path / "other.pt")
        hub.content = (tmp_path / "other.pt").read_bytes()
        hub.stated_sha256 = sha256_of(tmp_path / "other.pt")
        with pytest.raises(ModelError, match="weights do not fit the model"):
            pull(NAME)
        assert_nothing_installed(home)

    @pytest.mark.parametrize("status", [401, 404, 410])
    def test_refused(self, status: int, home: Path, hub: Hub) -> None:
        hub.status = status
        self.assert_cannot_fetch(home)

    def test_no_connection(self, home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
        self.assert_cannot_fetch(home)
        assert hub.asked == []

    def assert_cannot_fetch(self, home: Path) -> None:
        with pytest.raises(ModelError) as caught:
            pull(NAME)
        text = str(caught.value)
        assert text.startswith(f"cannot fetch {SPEC.file} of {SPEC.repository}: ")
        assert f"`rwkvsearch model pull {NAME} --from FILE`" in text and "\n" not in text
        assert_nothing_installed(home)

    def test_without_the_library(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(ModelError, match=r"pip install 'rwkvsearch\[hub\]'.*--from"):
            pull(NAME)
        assert_nothing_installed(home)


def test_official_checkpoint_of_another_shape(
    home: Path,
    tmp_path: Path,
    official_state: Callable[[ModelConfig, str], dict[str, Tensor]],
    tiny_config: ModelConfig,
) -> None:
    state = official_state(tiny_config, "x")
    state["image_model.pos_embed"] = torch.zeros(1, 4, 32)
    torch.save(state, tmp_path / "b16.pt")
    with pytest.raises(ModelError, match=r"image_model\.pos_embed has shape \[1, 4, 32\] instead"):
        pull(NAME, file=tmp_path / "b16.pt")
    assert_nothing_installed(home)
