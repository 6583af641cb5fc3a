"""The API over the sample photographs in a folder and in PostgreSQL, once each for all tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from rwkvsearch.indexer.address import Place, place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.ui.api.recording import Recording
from rwkvsearch.ui.api.routes import add_api
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings

SAMPLES = Path(__file__).parents[4] / "data" / "samples" / "photos"
HOSTILE = '"><img src=x onerror=alert(1)>.jpg'
UNDECODABLE = os.fsdecode(b"caf\xe9.jpg")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.server)
            if item.path.stem == "test_openapi" and "postgresql" in item.name:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "home"


@pytest.fixture(autouse=True)
def home(served_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for all tests; the starter model is the shipped one."""
    monkeypatch.setenv("RWKVSEARCH_HOME", str(served_home))
    return served_home


@pytest.fixture(scope="session")
def pictures(served_home: Path) -> Path:
    """The sample photographs, two of them again under odd names, one with a text beside it."""
    folder = served_home.parent / "pictures"
    shutil.copytree(SAMPLES, folder)
    (folder / "odd").mkdir()
    shutil.copy(folder / "coffee.jpg", folder / "odd" / UNDECODABLE)
    shutil.copy(folder / "panda.jpg", folder / "odd" / HOSTILE)
    (folder / "wren.txt").write_text("a small brown bird on a branch")
    return folder


@pytest.fixture(scope="session", params=["folder", "postgresql"])
def served_place(request: pytest.FixtureRequest, served_home: Path) -> Place:
    """Where the library lies: at home, and in another run of the tests in a database."""
    if request.param == "folder":
        return served_home
    return place_of(request.getfixturevalue("postgres").new_database())


@pytest.fixture(scope="session")
def service(served_home: Path, served_place: Place, pictures: Path) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RWKVSEARCH_HOME", str(served_home))
        with Library.create(served_place) as library:
            report = sync(library, [pictures], Encoder.load("starter"))
            assert not report.errors
        service = Service(Settings(served_place))
        assert service.warm.wait(120)
    yield service
    service.close()


@pytest.fixture(scope="session")
def api(service: Service) -> FastAPI:
    app = FastAPI(title="rwkvsearch", version="1", docs_url=None, redoc_url=None)
    app.state.service = service
    add_api(app, service)
    app.mount("/", PlainTextResponse("a page"))  # as the pages are
    return app


@pytest.fixture(scope="session")
def client(api: FastAPI, service: Service) -> TestClient:
    recorded: Any = Recording(api, service.settings, service.metrics)
    return TestClient(recorded, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)


Problem = Callable[[Any, int], str]


@pytest.fixture(scope="session")
def problem() -> Problem:
    """The one line of an answer that has to be a problem with this status."""

    def line(answer: Any, status: int) -> str:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        said = answer.json()
        assert said.keys() == {"type", "title", "status", "detail"} and said["status"] == status
        assert "\n" not in said["detail"] and "Traceback" not in said["detail"]
        return str(said["detail"])

    return line


@pytest.fixture(scope="session")
def engine(service: Service) -> Iterator[SearchEngine]:
    """Another engine on the same library: what answers are compared with."""
    with SearchEngine.open(service.settings.library) as engine:
        yield engine
