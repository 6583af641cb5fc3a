"""Where rwkvsearch keeps what belongs to a user: models, caches, the default library."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_folder() -> Path:
    """Return `$RWKVSEARCH_HOME`, by default the platform's folder for user data; not created."""
    named = os.environ.get("RWKVSEARCH_HOME")
    return Path(named) if named else Path(platformdirs.user_data_dir("rwkvsearch"))
