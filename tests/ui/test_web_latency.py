"""The programs that measure a server: what they count, and the libraries they make."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from rwkvsearch.indexer.ann.synthetic import Synthetic, fill
from rwkvsearch.indexer.contents import live_image, open_content
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.web_browser import _timings
from rwkvsearch.ui.web_latency import as_line
from rwkvsearch.ui.web_library import enlarge
from rwkvsearch.ui.web_load import MIXED, Asking, load, quantiles
from rwkvsearch.ui.web_server import slope

pytestmark = pytest.mark.server

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "photos"
HITS = [{"thumb": "/api/v1/thumbs/0", "image_id": 7}]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: Counter[str] = Counter()

    def do_GET(self) -> None:
        self.asked[self.path.partition("?")[0]] += 1
        body = json.dumps({"hits": HITS}).encode()
        self.send_response(404 if self.path.endswith("similar?k=48") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Answers.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_answer_is_counted(address: str) -> None:
    found = load(address, 3, 0.5, {"known": 1}, b"")
    assert found["wrong"] == {} and found["clients"] == 3 and found["requests"] > 3
    assert found["kinds"]["known"]["n"] == found["all"]["n"] == found["requests"]
    assert Answers.asked["/api/v1/search"] == found["requests"] + 8  # those that are known first


def test_what_is_wrong_is_counted_and_not_timed(address: str) -> None:
    found = load(address, 2, 0.3, {"similar": 1}, b"")
    assert found["wrong"] == {"similar: 404": found["requests"]} and found["requests"] > 2
    assert found["all"] == {"n": 0} and found["kinds"] == {} and found["per_second"] == 0


def test_a_server_that_has_gone_is_wrong(address: str) -> None:
    closed = "http://127.0.0.1:9"
    with pytest.raises(OSError):
        load(closed, 1, 0.1, {"known": 1}, b"")


def test_mixed_requests(address: str) -> None:
    asking = Asking(MIXED, HITS, b"picture")
    made = [asking() for _ in range(2000)]
    assert {one.kind for one in made} == set(MIXED)
    new = [one.path for one in made if one.kind == "new"]
    assert len(set(new)) == len(new) > 200
    bodies = [one.body for one in made if one.kind == "upload"]
    assert len(set(bodies)) == len(bodies) and all(body for body in bodies)
    assert {one.path for one in made if one.kind == "thumb"} == {"/api/v1/thumbs/0"}
    assert load(address, 4, 0.5, MIXED, b"picture")["requests"] > 0


def test_figures() -> None:
    assert quantiles([float(n) for n in range(101)]) == {
        "n": 101,
        "p50": 50.0,
        "p90": 90.0,
        "p99": 99.0,
    }
    steady = [(float(second), 500.0 + (100 if second < 15 else 0)) for second in range(1, 61)]
    assert slope(steady) == pytest.approx(0)
    assert slope([(t, mb + t / 30) for t, mb in steady]) == pytest.approx(2)
    said = {"data": [{"link": ""}, {"hits": [], "ms": {"encode": 1.5, "search": 2}}]}
    assert [*_timings(said)] == [{"encode": 1.5, "search": 2}] and [*_timings({"ms": 3})] == []
    assert as_line({"what": "a", "wrong": {}, "all": {"n": 0}}).split(maxsplit=1)[1] == (
        "wrong none, all n 0"
    )


def test_an_enlarged_library(tmp_path: Path) -> None:
    with Library.create(tmp_path / "small") as small:
        model = fill(small, Synthetic(dim=32, clusters=5), 20)
        _, before = small.embeddings(model.model_id, model.preprocessing_id)
    pictures = sorted(SAMPLES.glob("*.jpg"))[:3]
    near = [tmp_path / one.name for one in pictures]
    for link, one in zip(near, pictures, strict=True):
        link.write_bytes(one.read_bytes())
    home = enlarge(tmp_path / "small", tmp_path / "large", 50, near)
    assert enlarge(tmp_path / "small", tmp_path / "large", 50, near) == home  # it is there
    with Library.open(home) as library:
        ids, after = library.embeddings(model.model_id, model.preprocessing_id)
        assert ids.tolist() == [*range(1, 51)]
        nearest = (after.astype(np.float32) @ before.astype(np.float32).T).max(axis=1)
        assert nearest.min() > 0.8 and nearest.max() < 0.999
        shapes = shapes_of(library, ids.tolist())
        assert len({shape.content_hash for shape in shapes.values()}) == 50
        for image_id in (1, 50):  # the files are there, under stats that are theirs
            image = live_image(library, shapes[image_id].content_hash)
            with open_content(library, image) as stream:
                assert stream.read() == pictures[image_id % 3].read_bytes()
