"""What `/readyz` says of a library in PostgreSQL whose server stops and comes again."""

from types import SimpleNamespace
from typing import Any

import pytest

from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api.readiness import Readiness

pytestmark = pytest.mark.server


def test_a_server_that_stops(
    postgres: Any, team_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm: Any = SimpleNamespace(is_ready=True, trouble=None)
    monkeypatch.setattr("rwkvsearch.ui.api.readiness.OLDEST", 0.0)
    with Library.create(place_of(team_address)) as library:
        readiness = Readiness(library, warm)
        assert readiness.why_not() is None
        postgres.kill()
        try:
            assert readiness.why_not() == "the library cannot be read now"
        finally:
            postgres.start()
        assert readiness.why_not() is None
