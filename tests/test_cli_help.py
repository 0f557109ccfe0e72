"""What `--help` says: commands in groups, and texts that can be read alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import typer

from potstill.cli.commands import app
from potstill.cli.groups import GROUPS

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WORDS = [word for words in GROUPS.values() for word in words]


def test_every_command_is_in_one_group() -> None:
    assert sorted(WORDS) == sorted(COMMANDS)


def test_the_help_lists_every_command_under_its_heading(answer: Callable[..., str]) -> None:
    shown = answer("--help")
    for heading, words in GROUPS.items():
        (section,) = re.findall(rf"^{heading}:\n((?:  .*\n)+)", shown, re.MULTILINE)
        assert re.findall(r"^  (\w+)  ", section, re.MULTILINE) == list(words)
        for word in words:
            assert COMMANDS[word].get_short_help_str(limit=1000) in re.sub(r"\s+", " ", section)
    assert "..." not in shown.partition("Make:")[2]


@pytest.mark.parametrize("word", WORDS)
def test_a_help_text_can_be_read_alone(word: str) -> None:
    """It is there, says what the value is, and leans on no other text."""
    command = COMMANDS[word]
    below = getattr(command, "commands", {}).values()
    for parameter in [one for each in (command, *below) for one in each.params]:
        text = parameter.help or ""
        assert re.match(r"[A-Z0-9]", text), (parameter.name, text)
        assert not re.match(r"(Of|If|Such|Likewise|How many( |$)(?!\w))", text), parameter.name
        assert not re.search(r"\blikewise\b", text), parameter.name
