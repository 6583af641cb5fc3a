import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Before torch and faiss start their threads: spinning ones are several times slower under load.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, alone or among others."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with `data/` and `fixtures/`, too large to be part of the repository."""
    beside = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("RWKVSEARCH_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set RWKVSEARCH_TEST_DATA to the folder with the large sets")
    return folder
