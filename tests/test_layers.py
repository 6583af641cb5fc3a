import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each room may import besides itself.
BELOW = {
    "data": set(),
    "kernels": set(),
    "indexer": {"data"},
    "retrieval": {"data", "indexer", "kernels"},
    "ui": {"data", "indexer", "retrieval"},
}

# Foreign packages that only some rooms or modules may import.
ONLY_IN = {
    "faiss": ("indexer/ann/file.py",),
    "fastapi": ("ui/",),
    "gradio": ("ui/",),
    "numba": ("kernels/",),
    "onnx": ("retrieval/graphs/",),
    "onnxruntime": ("retrieval/graphs/",),
    "openvino": ("retrieval/graphs/quiet.py",),
    "ray": ("indexer/distributed/",),
    "rich": ("ui/",),
    "torch": ("kernels/", "retrieval/"),
    "tqdm": ("ui/",),
    "triton": ("kernels/",),
    "typer": ("ui/",),
}

LONGEST = 350
HEAVY = {"PIL", "faiss", "fastapi", "gradio", "numba", "openvino", "sqlalchemy", "torch", "triton"}

MODULES = sorted(
    path.relative_to(ROOT).as_posix() for room in BELOW for path in (ROOT / room).rglob("*.py")
)


def imports(module: str) -> set[str]:
    """Dotted names of all imports, also those inside functions, relative ones made absolute."""
    package = ("rwkvsearch", *Path(module).parent.parts)
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    room = module.split("/")[0]
    ours = {name.split(".")[1] for name in imports(module) if name.startswith("rwkvsearch.")}
    assert ours <= BELOW[room] | {room}


@pytest.mark.parametrize("module", MODULES)
def test_foreign_packages_stay_in_their_rooms(module: str) -> None:
    foreign = {name.split(".")[0] for name in imports(module)} & set(ONLY_IN)
    assert [name for name in sorted(foreign) if not module.startswith(ONLY_IN[name])] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_too_long(module: str) -> None:
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_pyproject_lists_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    folders = {Path(module).parent for module in MODULES if module.endswith("__init__.py")}
    assert listed == sorted(".".join(["rwkvsearch", *folder.parts]) for folder in folders)
    unmarked = {Path(module).parent for module in MODULES} - folders
    assert unmarked == set(), "folders without __init__.py are not installed"


def test_the_root_is_not_a_package() -> None:
    assert not (ROOT / "__init__.py").exists()


def test_command_line_starts_light() -> None:
    if not (ROOT / "ui/cli.py").exists():
        pytest.skip("ui/cli.py is not written yet")
    probe = "import json, sys; import rwkvsearch.ui.cli; print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert {name.split(".")[0] for name in json.loads(run.stdout)} & HEAVY == set()
