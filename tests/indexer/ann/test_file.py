"""How faiss is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rwkvsearch.data.processor import processor_line

CODE = """
import os
import numpy
before = dict(os.environ)
from rwkvsearch.indexer.ann.file import import_faiss
import_faiss()
assert dict(os.environ) == before
from threadpoolctl import threadpool_info
blas = [one for one in threadpool_info() if "faiss" in one["filepath"]]
print(*(one.get("architecture") for one in blas if one["internal_api"] == "openblas"))
"""


def imported(**variables: str) -> set[str]:
    kept = {name: value for name, value in os.environ.items() if "OPENBLAS" not in name}
    run = [sys.executable, "-c", CODE]
    done = subprocess.run(run, env=kept | variables, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_its_blas_uses_what_the_processor_has() -> None:
    pytest.importorskip("threadpoolctl")
    if "avx2" not in processor_line("flags").split():
        pytest.skip("this processor has no AVX2")
    if not (found := imported()):
        pytest.skip("this faiss brings no OpenBLAS")
    assert found <= {"SkylakeX", "Haswell"}


def test_a_person_has_the_last_word() -> None:
    pytest.importorskip("threadpoolctl")
    if not (found := imported(OPENBLAS_CORETYPE="Nehalem")):
        pytest.skip("this faiss brings no OpenBLAS")
    assert found == {"Nehalem"}


def test_flags_of_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, **_: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "open", missing)
    assert processor_line("flags") == ""
