"""Writers and readers of one library in PostgreSQL, and what is there after it was killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.indexer.team.load import run

pytestmark = [pytest.mark.server, pytest.mark.slow]
NOTHING: dict[str, Any] = {"errors": [], "wrong": [], "lost": [], "doubled": {}}


def met(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in NOTHING}


def test_four_writers_and_eight_readers(team_address: str, tmp_path: Path) -> None:
    found = run(team_address, tmp_path, writers=4, readers=8, seconds=40)
    assert met(found) == NOTHING and found["outages"] == 0
    assert found["counts"]["syncs"] >= 4 and found["counts"]["searches"] >= 8
    assert found["files"] >= 20


def test_what_was_acknowledged_is_there_after_a_kill(
    team_address: str, tmp_path: Path, postgres: Any
) -> None:
    """Twice, each time after every writer was told of another sync, in the middle of the next."""

    def outage() -> None:
        acknowledged = [tmp_path / f"w{number}.json" for number in range(3)]
        for _ in range(2):
            began = time.time()
            while not all(_changed(path, began) for path in acknowledged):
                assert time.time() < began + 100
                time.sleep(0.1)
            postgres.kill()
            postgres.start()
            kills.append(time.time())

    kills: list[float] = []
    killer = threading.Thread(target=outage)
    killer.start()
    found = run(team_address, tmp_path, writers=3, readers=2, seconds=90)
    killer.join()
    assert met(found) == NOTHING
    assert kills and found["outages"] >= len(kills)
    assert found["counts"]["syncs"] >= 3 * len(kills)


def _changed(path: Path, since: float) -> bool:
    return path.exists() and path.stat().st_mtime > since
