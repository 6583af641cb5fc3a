"""What `rwkvsearch.retrieval` offers is there, and costs nothing before it is used."""

import subprocess
import sys

import pytest

import rwkvsearch.retrieval as package


def test_every_name_is_there() -> None:
    assert sorted(package.__all__) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing  # type: ignore[attr-defined]


def test_importing_it_costs_nothing() -> None:
    heavy = "{'numpy', 'torch', 'sqlalchemy', 'PIL'}"
    program = f"import sys, rwkvsearch.retrieval; print({heavy} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert said.stdout == b"set()\n"
