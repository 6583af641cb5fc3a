"""Whatever the description allows, and whatever it does not, is answered as it says."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection

pytestmark = pytest.mark.server

# Not every text is a query, and not every number an image: 422 and 404 say so.
ACCEPTED = {"positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 404, 409, 422]}}


# A form holds texts: a null in it becomes the word "null", which is a query like any other.
IN_A_FORM = [negative_data_rejection]


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
        case.call_and_validate(excluded_checks=IN_A_FORM if is_form else [])

    try:
        asked()
    except Unsatisfiable:
        return False
    return True


def test_every_route_is_described(operations: list[Any]) -> None:
    assert len(operations) >= 22


def test_what_is_allowed(operations: list[Any]) -> None:
    assert all(check(operation, GenerationMode.POSITIVE, 12) for operation in operations)


def test_what_is_not_allowed(operations: list[Any]) -> None:
    assert sum(check(operation, GenerationMode.NEGATIVE, 12) for operation in operations) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_for_long(mode: GenerationMode, operations: list[Any]) -> None:
    for operation in operations:
        check(operation, mode, 300)
