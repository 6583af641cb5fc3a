"""The routes of the map: nothing starts by asking, one map at a time, in a process of its own."""

import base64
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from rwkvsearch.indexer.maps import read_map
from rwkvsearch.ui.api.routes import add_api
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings

from ..conftest import Run

pytestmark = pytest.mark.server

HOSTILE = '"><img src=x onerror=alert(1)>.jpg'


@pytest.fixture
def service(indexed: Path, home: Path, run: Run) -> Iterator[Service]:
    Image.new("RGB", (40, 30), (200, 30, 60)).save(indexed / HOSTILE)
    assert run("index", indexed).code == 0
    service = Service(Settings(home))
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    app = FastAPI()
    app.state.service = service
    add_api(app, service)
    return TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)


def test_from_nothing_to_a_map(client: TestClient, service: Service) -> None:
    state = client.get("/api/v1/map/state").json()
    assert (state["state"], state["pictures"], state["lacking"]) == ("none", 0, 9)
    empty = client.get("/api/v1/map").json()
    assert (empty["ids"], empty["x"], empty["state"]["state"]) == ([], "", "none")
    assert not (service.library.path / "maps").exists()

    answer = client.post("/api/v1/map")
    assert (answer.status_code, answer.json()["state"]) == (202, "computing")
    again = client.post("/api/v1/map")
    assert (again.status_code, "already" in again.json()["detail"]) == (409, True)
    assert service.maps.wait(120)

    found = client.get("/api/v1/map").json()
    assert (found["state"]["state"], found["state"]["error"]) == ("ready", None)
    with service.engine() as engine:
        made = read_map(service.library, engine.model)
    assert made is not None and np.cumsum(found["ids"]).tolist() == made.ids.tolist()
    coded = [np.frombuffer(base64.b64decode(found[axis]), "<u2") for axis in "xy"]
    assert np.allclose(np.stack(coded, 1) / 65_535, made.points, atol=1e-5)


def test_names_and_thumbnails(client: TestClient) -> None:
    pictures = client.get("/api/v1/map/pictures?ids=1,2,9,77").json()["pictures"]
    names = {one["image_id"]: one["name"] for one in pictures}
    assert set(names) == {1, 2, 9} and names[9] == HOSTILE
    assert client.get(pictures[0]["thumb"]).headers["content-type"] == "image/webp"


@pytest.mark.parametrize("ids", ["", "1,", "-1", "1;2", "x", "9" * 19, "١", ",".join("1" * 501)])
def test_wrong_ids_are_one_line(client: TestClient, ids: str) -> None:
    answer = client.get("/api/v1/map/pictures", params={"ids": ids})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "ids: up to 500 image ids with commas between"


def test_killed_it_says_so_and_can_be_started_again(client: TestClient, service: Service) -> None:
    client.post("/api/v1/map")
    work = service.maps._work
    assert work is not None
    os.kill(work.child.pid, signal.SIGKILL)
    assert service.maps.wait(30)
    state = client.get("/api/v1/map/state").json()
    assert state["state"] == "none" and "start it again" in state["error"]
    client.post("/api/v1/map")
    assert service.maps.wait(120)
    assert client.get("/api/v1/map/state").json()["state"] == "ready"


def test_ends_with_the_server(client: TestClient, service: Service) -> None:
    client.post("/api/v1/map")
    work = service.maps._work
    assert work is not None
    began = time.monotonic()
    service.maps.close()
    assert work.child.wait(0) and time.monotonic() - began < 5
    assert client.post("/api/v1/map").status_code == 503


def test_what_has_gone_is_not_shown(
    client: TestClient, service: Service, indexed: Path, run: Run
) -> None:
    client.post("/api/v1/map")
    assert service.maps.wait(120)
    (indexed / "3.png").unlink()
    assert run("index", indexed).code == 0
    with service.engine() as engine:
        made, state = service.maps.look(engine.model, "changed")
    assert made is not None and (len(made.ids), state.pictures, state.lacking) == (8, 8, 0)
    assert state.state == "ready"
