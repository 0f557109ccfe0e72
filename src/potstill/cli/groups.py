"""The commands as ``potstill --help`` shows them: in groups, by what they are for."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

GROUPS = {
    "Make": ("quickstart", "recipes", "data", "distill", "teacher"),
    "Score": ("evaluate", "scores", "compare", "protocols"),
    "Audit": ("attack", "continual", "diversity"),
    "Share": ("info", "show", "report", "relabel", "import", "export", "gallery"),
    "Papers": ("reproduce",),
}
"""Every command, by its word, under the heading of its group."""


class Grouped(TyperGroup):
    """The whole program; its help lists the commands of each group under a heading."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, the summaries in full and in one column."""
        width = max(map(len, self.commands))
        for heading, words in GROUPS.items():
            summaries = [self.commands[word].get_short_help_str(limit=1000) for word in words]
            rows = [(f"{word:{width}}", text) for word, text in zip(words, summaries, strict=True)]
            with formatter.section(heading):
                formatter.write_dl(rows)
