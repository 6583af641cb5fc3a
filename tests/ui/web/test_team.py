"""The page over a library in PostgreSQL, whose server is stopped and started again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Server, command, serving, visiting

pytestmark = pytest.mark.browser

STOPPED = "the server cannot be reached or has stopped"


@pytest.fixture
def server(team_address: str, library: Path, home: Path) -> Iterator[Server]:
    """A server over a copy of `library` in a database."""
    command("copy", team_address, "--library", library, RWKVSEARCH_HOME=str(home))
    with serving(team_address, "--log-format", "text", RWKVSEARCH_HOME=str(home)) as running:
        yield running


def test_search_while_the_database_comes_and_goes(
    browser: Any, server: Server, postgres: Any
) -> None:
    def find(page: Any, words: str) -> None:
        page.fill("#ask input[type=search]", words)
        page.keyboard.press("Enter")

    with visiting(browser, server) as visit:
        visit.allowed += ("503", "Service Unavailable")
        page = visit("/?q=a+dog&tag=dog")
        page.wait_for_selector("#found .card")
        page.locator("#found .card").first.click()
        page.locator("#found .picture img").first.wait_for()
        page.keyboard.press("Escape")

        postgres.stop()
        find(page, "snow")
        page.locator("#found .banner.error").get_by_text(STOPPED).wait_for()
        postgres.start()
        find(page, "snow on mountains")
        page.wait_for_selector("#found .card")
        page.wait_for_selector("#found .banner.error", state="detached")

        health = visit("/library")
        health.get_by_role("button", name="Check the library").click()
        health.locator(".findings").get_by_text("PostgreSQL").wait_for()
        benchmarks = visit("/benchmarks")
        benchmarks.get_by_text("bench speed").first.wait_for()
        assert "rwkvsearch tune" not in benchmarks.content()
