"""The description of the API in a browser: read and tried, with nothing from elsewhere."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.browser


def test_a_search_from_the_description(visit: Any) -> None:
    page = visit("/docs")
    page.wait_for_selector(".opblock")
    route = page.locator("#operations-search-search_api_v1_search_get")
    route.locator("button.opblock-summary-control").click()
    route.locator("tr[data-param-name=q] input").fill("a dog")
    route.locator("button.execute").click()
    answer = route.locator(".live-responses-table .highlight-code code").first
    answer.wait_for()
    assert json.loads(answer.inner_text())["terms"] == "a dog"
    assert any("/api/v1/search?" in asked for asked in visit.requests)
