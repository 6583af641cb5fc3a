"""The language model behind a real HTTP server on the loopback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.errors import DataError, ModelError

pytest.importorskip("httpx")
from rwkvsearch.retrieval.describing.access import (
    KEY_VARIABLE,
    checked_address,
    only_model,
    read_key,
)
from rwkvsearch.retrieval.describing.endpoint import Endpoint


@pytest.fixture
def model(llm: Any) -> Endpoint:
    return Endpoint(llm.url, "tiny-llm", "secret", first_wait=0.01, tries=3, timeout=5)


def ask(model: Endpoint, *questions: str) -> list[str | Failed]:
    return model.answer("Do it.", questions, lambda *_: None)


def test_success(llm: Any, model: Endpoint) -> None:
    kept: dict[int, str] = {}
    answers = model.answer("Do it.", [f"RAW: {n}" for n in range(20)], kept.__setitem__)
    assert answers == [f'"{n}"' for n in range(20)]
    assert kept == dict(enumerate(answers))
    body = llm.asked[0]
    assert body["messages"][0] == {"role": "system", "content": "Do it."}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny-llm", 0.2, 120)
    assert llm.keys == {"Bearer secret"}
    assert (model.usage.requests, model.usage.tokens_in, model.usage.tokens_out) == (20, 2000, 200)
    assert "secret" not in repr(model)


def test_several_at_once_but_no_more(llm: Any, model: Endpoint) -> None:
    llm.delay = 0.02
    model.concurrency = 4
    ask(model, *(f"RAW: {n}" for n in range(24)))
    assert 2 <= llm.most_busy <= 4


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_fault_that_passes(llm: Any, model: Endpoint, status: int) -> None:
    llm.plan = lambda question, before: (status if before == 0 else 200, {"Retry-After": "0"})
    assert ask(model, "RAW: a", "RAW: b") == ['"a"', '"b"']
    assert sorted(llm.questions) == ["RAW: a", "RAW: a", "RAW: b", "RAW: b"]


def test_a_fault_that_stays_is_the_reason_of_one_question(llm: Any, model: Endpoint) -> None:
    llm.plan = lambda question, before: (500 if "b" in question else 200, {})
    first, second, third = ask(model, "RAW: a", "RAW: b", "RAW: c")
    assert (first, third) == ('"a"', '"c"')
    assert isinstance(second, Failed)
    assert second.reason.startswith("HTTP 500: ") and second.reason.endswith(", 3 times")
    assert llm.questions.count("RAW: b") == 3


def test_the_server_says_how_long_to_wait(
    llm: Any, model: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def no_sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("rwkvsearch.retrieval.describing.endpoint.asyncio.sleep", no_sleep)
    llm.plan = lambda question, before: (429 if before < 2 else 200, {"Retry-After": "7"})
    assert ask(model, "RAW: a") == ['"a"']
    assert [5 < wait < 9 for wait in waits] == [True, False]  # then twice as long
    assert 11 < waits[1] < 17


def test_no_answer_in_time(llm: Any, model: Endpoint) -> None:
    llm.delay, model.timeout, model.tries = 0.3, 0.05, 2
    assert ask(model, "RAW: a") == [Failed("no answer within 0.05 s, 2 times")]


def test_a_request_that_is_wrong_is_not_repeated(llm: Any, model: Endpoint) -> None:
    llm.plan = lambda question, before: (400, {})
    (answer,) = ask(model, "RAW: a")
    assert isinstance(answer, Failed) and "HTTP 400" in answer.reason
    assert len(llm.asked) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, f"no access.*{KEY_VARIABLE}"), (404, "no such model"), (307, "redirects to elsewhere")],
)
def test_what_stops_a_run(llm: Any, model: Endpoint, status: int, words: str) -> None:
    llm.plan = lambda question, before: (status, {"Location": "elsewhere"})
    with pytest.raises(ModelError, match=words) as caught:
        ask(model, "RAW: a", "RAW: b")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_no_server(model: Endpoint) -> None:
    model.url = "http://127.0.0.1:9/v1"
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/v1: no connection.*what is done is kept"):
        ask(model, "RAW: a")


def test_one_failure_after_another(
    llm: Any, model: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rwkvsearch.retrieval.describing.endpoint.LONGEST_STREAK", 5)
    llm.plan = lambda question, before: (400, {})
    model.concurrency = 1
    with pytest.raises(ModelError, match="5 questions in a row failed, the last with 'HTTP 400"):
        ask(model, *(f"RAW: {n}" for n in range(20)))
    assert len(llm.asked) <= 6


def test_a_full_cache_stops_it_too(model: Endpoint, llm: Any) -> None:
    def full(*_: object) -> None:
        raise DataError("the disk is full")

    with pytest.raises(DataError, match="the disk is full"):
        model.answer("Do it.", ["RAW: a", "RAW: b"], full)


@pytest.mark.parametrize("content", [None, 3])
def test_an_answer_without_text(llm: Any, model: Endpoint, content: object) -> None:
    llm.answer = lambda question: content
    assert ask(model, "RAW: a") == [Failed("the answer holds no text")]


def test_the_only_model(llm: Any) -> None:
    assert only_model(llm.url, None) == "tiny-llm"
    llm.models = ["a", "b"]
    with pytest.raises(ModelError, match="serves a, b: name one with --llm-model"):
        only_model(llm.url, None)
    with pytest.raises(ModelError, match="does not say which model it serves"):
        only_model(llm.url.replace("/v1", "/v2"), None)


def test_addresses() -> None:
    assert checked_address("http://host:8000") == "http://host:8000/v1"
    assert checked_address("https://host/api/v2/") == "https://host/api/v2"
    assert checked_address("http://host/v1/chat/completions") == "http://host/v1"
    for wrong in ("host:8000", "ftp://host", "http://"):
        with pytest.raises(ModelError, match="is no address"):
            checked_address(wrong)
    for wrong in ("http://me:secret@host/v1", "http://host/v1?key=secret"):
        with pytest.raises(ModelError, match="holds no secrets") as caught:
            checked_address(wrong)
        assert "me:secret" not in str(caught.value)


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, " from-environment\n")
    assert read_key(None) == "from-environment"
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert read_key(file) == "from-file"
    broken: list[Callable[[], object]] = [
        lambda: file.write_text(""),
        lambda: file.write_text("two words"),
        lambda: file.write_bytes(b"\xff"),
        file.unlink,
    ]
    for change in broken:
        change()
        with pytest.raises(ModelError, match="key"):
            read_key(file)
