"""Counts, health, metrics, the log and the documents."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.facets import facets_of
from rwkvsearch.ui.api.metrics import Metrics
from rwkvsearch.ui.api.readiness import OLDEST, Readiness
from rwkvsearch.ui.api.recording import LOGGER, Recording
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.logs import Lines, LogFormat
from rwkvsearch.ui.render import stats_as_json

API = "/api/v1"
ID = "X-Request-ID"
Problem = Callable[[Any, int], str]
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def values(client: TestClient) -> Values:
    answer = client.get(f"{API}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_stats(client: TestClient, service: Service) -> None:
    said = client.get(f"{API}/stats")
    assert said.json() == json.loads(stats_as_json(service.library.name, service.library.stats()))
    assert said.json()["images"] == 60 and said.json()["files"] == 62


def test_facets(client: TestClient, service: Service, pictures: Path) -> None:
    said, known = client.get(f"{API}/facets").json(), facets_of(service.library)
    for name in ("images", "first_taken", "last_taken", "captioned", "placed"):
        assert said[name] == getattr(known, name)
    for name in ("folders", "cameras", "formats", "orientations", "tags"):
        wanted = [{"value": str(one[0]), "images": one[1]} for one in getattr(known, name)]
        assert said[name] == wanted
    assert {"value": str(pictures / "odd"), "images": 2} in said["folders"]
    asked = {"q": "x", "k": 100, "under": str(pictures / "odd")}
    assert len(client.get(f"{API}/search", params=asked).json()["hits"]) == 2


def test_health(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get(f"{API}/health/live").json() == {"status": "alive"}
    ready = client.get(f"{API}/health")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready" and ready.json()["images"] == 60
    monkeypatch.setattr(type(service.warm), "is_ready", False)
    loading = client.get(f"{API}/health")
    assert loading.status_code == 503 and loading.json()["status"] == "loading"
    assert client.get(f"{API}/health/live").status_code == 200


def test_metrics(client: TestClient, service: Service) -> None:
    before = values(client)
    for _ in range(3):
        client.get(f"{API}/search", params={"q": "counted"})
    client.get(f"{API}/search")
    client.get(f"{API}/images/1")
    client.get(f"{API}/images/2")
    client.get(f"{API}/nothing/at/all")
    new = client.get(f"{API}/images/3").json()["thumb"]
    client.get(f"{new}?size=1600")
    client.get(f"{new}?size=1600")
    after = values(client)

    def counted(route: str, status: str) -> float:
        labels = (("method", "GET"), ("route", route), ("status", status))
        name = "rwkvsearch_requests_total"
        return after[name, labels] - before.get((name, labels), 0)

    assert counted(f"{API}/search", "200") == 3 and counted(f"{API}/search", "422") == 1
    assert counted(f"{API}/images/{{id}}", "200") == 3
    assert counted(f"{API}/{{rest:path}}", "404") == 1
    for stage in ("encode", "search"):
        key = "rwkvsearch_search_seconds_count", (("stage", stage),)
        assert after[key] - before.get(key, 0) == 3
    assert after["rwkvsearch_library_images", ()] == 60
    assert after["rwkvsearch_library_files", ()] == 62
    found = [n for (name, _), n in after.items() if name == "rwkvsearch_library_ann_recall"]
    assert found == ([] if service.library.is_shared else [1])  # a small one has no index
    assert after["rwkvsearch_library_synced_timestamp_seconds", ()] > 1e9
    assert after["rwkvsearch_uploads", ()] == len(service.uploads)
    made = "rwkvsearch_thumbnails_made", ()
    assert after[made] - before[made] == 1 and after["rwkvsearch_ready", ()] == 1


def test_every_server_counts_for_itself(service: Service, client: TestClient) -> None:
    one, other = Metrics(), Metrics()
    one.answered("/x", "GET", 200, 0.1)
    assert b'route="/x"' in one.as_text(service) and b'route="/x"' not in other.as_text(service)


@pytest.mark.parametrize("how", ["json", "text"])
@pytest.mark.parametrize("log_queries", [False, True])
def test_the_log_says_what_is_asked_only_if_told(
    log_queries: bool,
    how: LogFormat,
    api: FastAPI,
    service: Service,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = replace(service.settings, log_queries=log_queries)
    recorded: Any = Recording(api, settings, Metrics())
    caplog.handler.setFormatter(Lines(how))
    with caplog.at_level(logging.INFO, LOGGER):
        TestClient(recorded).get(f"{API}/search?q=secret%20words", headers={ID: "abc-1"})
    line = caplog.text.strip()
    path = f"{API}/search" + ("?q=secret%20words" if log_queries else "")
    assert "\n" not in line and "abc-1" in line and path in line
    assert ("secret" in line) == log_queries
    if how == "json":
        said = json.loads(line)
        assert list(said)[:2] == ["time", "level"] and said["level"] == "info"
        assert said["status"] == 200 and said["method"] == "GET" and said["path"] == path
        assert said["ms"] > 0 and said["client"] == "testclient"
        assert said["route"] == f"{API}/search" and said["request_id"] == "abc-1"


def test_every_request_has_a_name(client: TestClient) -> None:
    for path in (f"{API}/stats", f"{API}/none", "/healthz", "/page"):
        assert client.get(path, headers={ID: "a.B-1_"}).headers[ID] == "a.B-1_"
        for wrong in ("", "x" * 65, "a b", "a\tb", "<b>", "%0d", "\xe9"):
            own = client.get(path, headers={ID: wrong.encode("latin-1")}).headers[ID]
            assert re.fullmatch(r"[0-9a-f]{16}", own), wrong
    assert client.get("/healthz").headers[ID] != client.get("/healthz").headers[ID]


def test_probes(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def ready() -> Any:
        monkeypatch.setattr(service.readiness, "_looked", -OLDEST)
        return client.get("/readyz")

    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "alive\n")
    assert (ready().status_code, ready().text) == (200, "ready\n")
    assert client.head("/readyz").status_code == client.head("/healthz").status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(type(service.warm), "is_ready", False)
        assert ready().status_code == 503 and "model" in ready().json()["detail"]
        assert client.get("/healthz").status_code == 200

    @contextmanager
    def broken() -> Iterator[None]:
        raise LibraryError("secret place")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(service.library, "read", broken)
        assert ready().status_code == 503 and "library" in ready().json()["detail"]
        assert "secret" not in ready().text
    with monkeypatch.context() as patch:
        patch.setattr(service.warm, "trouble", "secret place")
        assert ready().status_code == 503 and "secret" not in ready().text
    assert ready().status_code == 200


def test_metrics_without_a_library(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise LibraryError("the server is away")

    assert values(client)["rwkvsearch_ready", ()] == 1
    monkeypatch.setattr(service, "stats", broken)
    monkeypatch.setattr(service.readiness, "_look", lambda: "away")
    monkeypatch.setattr(service.readiness, "_looked", -OLDEST)
    found = values(client)
    assert found["rwkvsearch_ready", ()] == 0 and found["rwkvsearch_library_files", ()] == 62


def test_many_probes_look_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    readiness = Readiness(service.library, service.warm)
    monkeypatch.setattr(readiness, "_look", lambda: looked.append(None))
    assert [readiness.why_not() for _ in range(20)] == [None] * 20 and len(looked) == 1


def test_documents_come_from_here(client: TestClient, problem: Problem) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html") and "http" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js"):
        assert f"/docs/{name}" in page.text
        assert client.get(f"/docs/{name}").status_code == 200
    assert "no 'x' here" in problem(client.get("/docs/x"), 404)
    assert problem(client.get("/docs/docs.html"), 404)


def test_the_description_is_whole(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            where = f"{method} {path}"
            assert one["summary"] and one["description"], where
            assert one["tags"], where
            for status, answer in one["responses"].items():
                if int(status) >= 400 and (path, status) != (f"{API}/health", "503"):
                    assert list(answer["content"]) == ["application/problem+json"], where
                assert answer["description"], where
            takes = any(p["in"] in ("path", "query") for p in one.get("parameters", ()))
            assert not (takes or "requestBody" in one) or "422" in one["responses"], where
