"""The examples of `docs/deploy` say what the command line takes, and keep secrets out of it."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from rwkvsearch.ui.api.guards.probes import PROBES
from rwkvsearch.ui.cli import app

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
OURS = {name: one for name, one in COMPOSE["services"].items() if name != "database"}
UNITS = sorted(DEPLOY.glob("*.service"))


def parse(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line; `UsageError` if it is none."""
    root: Any = get_command(app)
    name, *rest = words
    with root.commands[name].make_context(name, rest) as context:
        return dict(context.params)


def programs(unit: Path) -> list[list[str]]:
    lines = re.findall(r"^ExecStart=\S*/rwkvsearch (.*)$", unit.read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("name", OURS)
def test_services_run_commands_that_there_are(name: str) -> None:
    found = parse(OURS[name]["command"])
    assert found["library"].startswith("postgresql://") and ":" not in found["library"][13:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_commands_that_there_are(unit: Path) -> None:
    assert programs(unit)
    for words in programs(unit):
        assert parse(words)
    assert "\nUser=rwkvsearch\n" in unit.read_text("utf-8")


def test_services_have_what_they_need() -> None:
    for service in COMPOSE["services"].values():
        assert re.search(r":\d[\w.-]*$", service["image"]), "pinned"
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or volume.startswith("${PICTURES:")
            assert source in COMPOSE["volumes"] or volume.endswith("/pictures:ro")
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for service in OURS.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    published = [port for one in COMPOSE["services"].values() for port in one.get("ports", ())]
    assert published == ["127.0.0.1:7860:7860"]
    assert all(secret.keys() == {"file"} for secret in COMPOSE["secrets"].values())


def test_the_image_is_not_run_by_root_and_asks_for_a_probe() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    (asked,) = re.findall(r"http://127\.0\.0\.1:7860(/\w+)", text)
    assert asked in PROBES
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in re.findall(r"^FROM (\S+)", text))
