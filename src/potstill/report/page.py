"""The page: run folders in, one HTML file out that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined

from potstill.comparison import Comparison as SideBySide
from potstill.comparison import holds, read
from potstill.files import atomic_write
from potstill.papers.departures import of_nearest
from potstill.report.compared import compared_view
from potstill.report.comparison import Comparison, compare, compare_cost
from potstill.report.drawings import overview
from potstill.report.starts import together
from potstill.report.views import comparison_view, cost_view, group_view, run_view
from potstill.runs.records import RunRecord, read_all


def write(runs: Sequence[Path], out: Path) -> None:
    """Report on runs, finished or not, and on comparisons in one self-contained HTML page.

    The same folders give the same bytes. Nothing is trained or evaluated.

    Args:
        runs: folders that ``potstill distill`` or ``potstill compare`` wrote, in the order of the
            page; comparisons stand before runs.
        out: the HTML file to make or replace.

    Raises:
        RunError: a folder is no readable run or comparison, or ``out`` cannot be written.
        ArtefactError: a run's distilled set is damaged.
    """
    folders = [Path(run) for run in runs]
    found = {str(folder): read(folder) for folder in folders if holds(folder)}
    others = [folder for folder in folders if not holds(folder)]
    records = read_all(others) if others or not found else []
    atomic_write(Path(out), render(records, found).encode())


def render(
    runs: Sequence[RunRecord], compared_sets: Mapping[str, SideBySide] = MappingProxyType({})
) -> str:
    """The page on ``runs``, whose labels differ, and on comparisons, by their folders."""
    environment = Environment(
        loader=PackageLoader("potstill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    views = [run_view(run, place) for place, run in enumerate(runs, start=1)]
    compared = {run.label: compare(run) for run in runs}
    comparisons = [
        row
        for run, view in zip(runs, views, strict=True)
        for row in (
            *(comparison_view(view, entry) for entry in compared[run.label]),
            *(cost_view(view, cost) for cost in compare_cost(run)),
        )
    ]
    groups = together(runs)
    anchors = {run.label: view["anchor"] for run, view in zip(runs, views, strict=True)}
    return environment.get_template("report.html.j2").render(
        title=_title(runs, compared_sets),
        compared=[
            compared_view(found, label, number)
            for number, (label, found) in enumerate(compared_sets.items(), start=1)
        ],
        runs=views,
        groups=[group_view(group, anchors) for group in groups],
        comparisons=comparisons,
        asides=_asides(runs, compared),
        overview=overview(groups, compared),
    )


def _title(runs: Sequence[RunRecord], compared_sets: Mapping[str, SideBySide]) -> str:
    if len(runs) == 1 and not compared_sets:
        return f"Distillation of {runs[0].label}"
    if len(compared_sets) == 1 and not runs:
        return f"Distilled sets of {next(iter(compared_sets.values())).title}, side by side"
    return "Distilled data sets"


def _asides(
    runs: Sequence[RunRecord], compared: Mapping[str, Sequence[Comparison]]
) -> list[dict[str, str]]:
    """For each run that has no number of a paper beside it: its label and why."""
    asides = []
    for run in runs:
        if compared[run.label] or compare_cost(run):
            continue
        if run.recipe is not None and run.recipe.paper:
            why = "the papers print no single accuracy for the row its recipe stands for."
        else:
            why = "its recipe stands for no row of a paper."
            departures = of_nearest(run)
            if departures:
                why = f"{why[:-1]}: {', '.join(departures)}."
        asides.append({"label": run.label, "why": why})
    return asides
