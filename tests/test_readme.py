"""The README names every command, and every command explains itself."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rwkvsearch.ui.cli import app

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [
    ["index"],
    ["query"],
    ["export"],
    ["import"],
    ["serve"],
    ["stats"],
    ["watch"],
    ["doctor"],
    ["dupes"],
    ["backup"],
    ["restore"],
    ["copy"],
    ["forget"],
    ["relocate"],
    ["describe"],
    ["classify"],
    ["tag"],
    ["train"],
    ["tune"],
    ["model", "list"],
    ["model", "info"],
    ["model", "pull"],
    ["model", "export"],
    ["bench", "recall"],
    ["bench", "classify"],
    ["bench", "probe"],
    ["bench", "speed"],
    ["album", "save"],
    ["album", "show"],
    ["album", "list"],
    ["album", "rename"],
    ["album", "delete"],
    ["eval"],
    ["daemon", "status"],
    ["daemon", "start"],
    ["daemon", "stop"],
    ["daemon", "restart"],
]


def test_the_list_here_is_complete() -> None:
    names = {command[-1] for command in COMMANDS}
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    registered = [command for group in groups if group for command in group.registered_commands]
    assert {c.name or getattr(c.callback, "__name__", "") for c in registered} == names


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_is_in_the_readme_and_has_help(command: list[str]) -> None:
    assert f"rwkvsearch {' '.join(command)}" in README.read_text("utf-8")
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_a_library(command: list[str]) -> None:
    assert "--library" in CliRunner().invoke(app, [*command, "--help"]).output
