"""What is damaged here are files; `test_server` has its own library."""

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "library"
