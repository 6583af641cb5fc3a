"""Whatever the description allows, and whatever it does not, is answered as it says."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.testclient import TestClient

from rwkvsearch.ui.api.routes import add_api
from rwkvsearch.ui.api.settings import Settings

from .conftest import Problem

pytestmark = pytest.mark.server

# Not every text is a query, and not every number an image: 422 and 404 say so.
ACCEPTED = {"positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 404, 409, 422]}}


# A form holds texts: a null in it becomes the word "null", which is a query like any other.
IN_A_FORM = [negative_data_rejection]
# Whoever does not wait for the duplicates is told by 503 to come again.
NOT_AT_ONCE = [not_a_server_error, positive_data_acceptance]


@pytest.fixture(scope="session")
def operations(api: FastAPI) -> list[Any]:
    config = SchemathesisConfig.from_dict({"seed": 7, "checks": ACCEPTED})
    schema = schemathesis.openapi.from_asgi("/openapi.json", api, config=config)
    return [found.ok() for found in schema.get_all_operations()]


def check(operation: Any, mode: GenerationMode, examples: int) -> bool:
    """All checks of schemathesis: status codes, media types, schemas, rejections, no 5xx.

    Whether there was anything to ask: nothing is wrong where nothing is taken.
    """
    is_form = any(body.media_type == "multipart/form-data" for body in operation.body)
    waits = operation.path.endswith("/duplicates/paths")
    excluded = (IN_A_FORM if is_form else []) + (NOT_AT_ONCE if waits else [])

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=excluded)

    try:
        asked()
    except Unsatisfiable:
        return False
    return True


def test_every_route_is_described(operations: list[Any], api: FastAPI) -> None:
    assert len(operations) >= 37
    for operation in operations:
        statuses = operation.definition.raw["responses"].keys()
        assert {"403", "422", "429", "503"} <= statuses, operation.label


def test_what_is_not_a_parameter_is_refused_everywhere(
    operations: list[Any], client: TestClient, problem: Problem
) -> None:
    for operation in operations:
        path = re.sub(r"{[^}]*}", "1", operation.path)
        answer = client.request(operation.method, path, params={"lmit": 1})
        assert "lmit" in problem(answer, 422), operation.label


def test_a_token_is_needed_everywhere(service: Any) -> None:
    app = FastAPI()
    add_api(app, SimpleNamespace(settings=Settings(Path(), token="a" * 16), warm=service.warm))
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            assert operation["security"] == [{"HTTPBearer": []}], path
            assert "401" in operation["responses"], path


def test_what_is_allowed(operations: list[Any]) -> None:
    assert all(check(operation, GenerationMode.POSITIVE, 12) for operation in operations)


def test_what_is_not_allowed(operations: list[Any]) -> None:
    assert sum(check(operation, GenerationMode.NEGATIVE, 12) for operation in operations) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_for_long(mode: GenerationMode, operations: list[Any]) -> None:
    for operation in operations:
        check(operation, mode, 300)
