"""What a server makes of the lines of the process that syncs."""

import pytest

from rwkvsearch.ui.api.sync_state import MOST_SKIPPED, Pace, SyncState, after, started


def progress(stage: str, total: int, done: int = 0, errors: int = 0) -> dict[str, object]:
    return {"event": "progress", "stage": stage, "total": total, "done": done, "errors": errors}


def told(*lines: tuple[float, dict[str, object]]) -> SyncState:
    pace, state = Pace(), started()
    for moment, line in lines:
        state = after(state, line, pace, moment)
    return state


def test_pace_and_time_left() -> None:
    state = told((0, progress("embed", 1000)), (10, progress("embed", 1000, 200, 3)))
    assert (state.done, state.total, state.errors) == (200, 1000, 3)
    assert (state.per_second, state.seconds_left) == (20.0, 40.0)


def test_each_stage_has_a_pace_of_its_own() -> None:
    lines = [(0.0, progress("scan", 256)), (1.0, progress("scan", 512))]
    assert told(*lines).per_second == 256 and told(*lines).seconds_left is None
    state = told(*lines, (2.0, progress("embed", 512)))
    assert state.per_second is None and state.seconds_left is None


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    slow = [(float(second), progress("embed", 9000, second)) for second in range(100)]
    fast = [(100.0 + n, progress("embed", 9000, 100 + 50 * n)) for n in range(40)]
    assert told(*slow, *fast).per_second == pytest.approx(50)


def test_only_the_last_skipped_files_are_kept() -> None:
    lines = [(0.0, {"event": "skipped", "path": f"/{n}", "reason": "empty"}) for n in range(150)]
    state = told(*lines)
    assert len(state.skipped) == MOST_SKIPPED and state.skipped[-1].path == "/149"


def test_the_end() -> None:
    state = told((0, {"event": "end", "outcome": "done", "message": "3 files: 3 embedded"}))
    assert (state.outcome, state.message) == ("done", "3 files: 3 embedded")
