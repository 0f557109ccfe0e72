"""A run's audits as the page shows them: every value a finished piece of text or drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from potstill.config import NetworkRecipe
from potstill.papers import Row, audits, departures
from potstill.report import audit_plots
from potstill.report.audit_plots import Line
from potstill.report.drawings import Drawing, Key
from potstill.results import (
    Accuracy,
    Attacked,
    Continual,
    Evaluation,
    HardLabelled,
    Membership,
    RobustScores,
    Targets,
    representatives,
)
from potstill.runs.records import RunRecord
from potstill.text import (
    accuracy_text,
    count,
    network_text,
    percent,
    points,
    protocol_text,
    training_texts,
)

_Points = tuple[float, ...]

_ATTACKS = {
    "threshold": "Threshold",
    "lr": "Logistic regression",
    "mlp": "Perceptron",
    "rf": "Random forest",
    "knn": "Nearest neighbours",
}
_TRAINED_ON = {
    "distilled": "the distilled images",
    "random": "as many random members",
    "members": "all members",
}
_SHORT = {"distilled": "distilled", "random": "random", "members": "all members"}
_NO_ROW = "its recipe stands for no row of this table"
# Of Figures 3, 6 and 7 of RCIG.
_FOLLOWED = "mlp"
_SHAPES = ("solid", "dashed", "dotted")


def audit_views(run: RunRecord, anchor: str) -> dict[str, Any]:
    """What the template's sections on audits need."""
    return {
        "transfer": transfer(run),
        "scores": [_scores(audit) for audit in run.scores],
        "membership": [
            _membership(run, audit, f"{anchor}-attack-{number}")
            for number, audit in enumerate(run.membership, start=1)
        ],
        "continual": [
            _continual(run, audit, f"{anchor}-continual-{number}")
            for number, audit in enumerate(run.continual, start=1)
        ],
    }


def transfer(run: RunRecord) -> list[dict[str, Any]]:
    """A table for each protocol and number of epochs under which several networks were trained.

    The network that the set was distilled for, if it is among them, comes first.
    """
    own = run.network
    tables: dict[str, list[Evaluation]] = {}
    for result in representatives(run.results):
        tables.setdefault(protocol_text(result.training), []).append(result)
    return [
        {
            "how": how,
            "students": [
                _student(run, result)
                for result in sorted(results, key=lambda result: result.network != own)
            ],
        }
        for how, results in tables.items()
        if len(results) > 1
    ]


def _student(run: RunRecord, result: Evaluation) -> dict[str, str]:
    printed = audits.transfer(run, result.network)
    baseline, best = result.baseline, result.best_on_test
    return {
        "network": network_text(result.network),
        "own": "distilled for this" if result.network == run.network else "",
        "accuracy": accuracy_text(result.accuracy),
        "networks": count(len(result.accuracy.values), "network"),
        "best": accuracy_text(best) if best else "",
        "baseline": accuracy_text(baseline) if baseline else "",
        "gain": f"{points(result.accuracy.mean - baseline.mean)} gained" if baseline else "",
        "paper": _printed(printed, 1) if printed else "",
        "table": printed.title if printed else "",
    }


# Robust scores


def _scores(audit: RobustScores) -> dict[str, Any]:
    real, hard, ior = audit.hlr.real, audit.hlr.distilled, audit.ior
    ars = audit.ars
    return {
        "how": (
            f"{_networks(audit.networks, audit.network)}, protocol {audit.protocol}, "
            f"hard labels{_lasting(hard)}, seed {audit.seed}"
        ),
        "warnings": audit.warnings,
        "rows": [
            _score("LRS", "label-robust", f"{audit.lrs.value:.3f}", "more", [
                f"weighed improvement {points(audit.lrs.improvement)}, of IOR and HLR",
            ]),
            _score("ARS", "augmentation-robust", f"{ars.value:.3f}", "more", [
                f"over random images {points(ars.augmented.value)} with augmentation",
                f"{points(ars.plain.value)} without",
            ]),
            _score("HLR", "hard label recovery", points(audit.hlr.value), "less", [
                f"all real images {accuracy_text(real)}{_lasting(real)}",
                f"distilled, hard labels {accuracy_text(hard)}{_lasting(hard)}",
            ]),
            _score("IOR", "improvement over random", points(ior.value), "more", [
                f"distilled, {audit.protocol} {accuracy_text(ior.distilled)}",
                f"as many random real images {accuracy_text(ior.random)}",
            ]),
        ],
    }  # fmt: skip


def _score(name: str, words: str, value: str, better: str, parts: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "words": words,
        "value": value,
        "better": f"{better} is better",
        "parts": parts,
    }


def _networks(number: int, network: NetworkRecipe) -> str:
    return f"{count(number, 'network')} of {network_text(network)}"


def _lasting(part: HardLabelled) -> str:
    """For how long: a budget that is too small shows."""
    return f" after {count(part.epochs, 'epoch')}"


# Membership inference


def _membership(run: RunRecord, audit: Membership, identity: str) -> dict[str, Any]:
    targets = {"distilled": audit.distilled} | {
        name: audit.baselines[name]
        for name in ("random", "members")
        if name in audit.baselines
    }  # fmt: skip
    printed = audits.attacks(run)
    steps = audit.distilled.last.steps
    return {
        "how": (
            f"{_networks(audit.networks, audit.network)}, "
            f"{count(steps, 'step')} {_augmented(audit)}; {count(audit.members, 'member')} against "
            f"{count(audit.others, 'other')} in {count(audit.folds, 'fold')}"
        ),
        "attacks": [_ATTACKS.get(name, name) for name in audit.attacks],
        "rows": _areas(audit, targets, printed),
        "paper": _title(printed.get("distilled") or printed.get("members") or {}),
        "departures": (
            (
                *_unlike(run, printed.get("distilled", {})),
                *audits.of_membership(audit, run).phrases,
                *audits.of_sets(audit.sets),
            )
            if printed
            else ()
        ),
        "roc": [
            _roc(name, targets, f"{identity}-roc-{name}")
            for name in audit.attacks
            if all(name in of.roc.tpr for of in targets.values())
        ],
        "course": _courses(audit, targets, identity) if len(audit.distilled.curve) > 1 else [],
        "warnings": audit.warnings,
    }


def _areas(
    audit: Membership,
    targets: Mapping[str, Targets],
    printed: Mapping[str, Mapping[str, Row]],
) -> list[dict[str, Any]]:
    rows = []
    for name, of in targets.items():
        beside = printed.get(name, {})
        rows.append(
            {
                "name": f"{_TRAINED_ON[name][0].upper()}{_TRAINED_ON[name][1:]}",
                "images": count(of.images, "image"),
                "accuracy": accuracy_text(of.last.accuracy),
                "paper_accuracy": _printed(beside["accuracy"], 1) if "accuracy" in beside else "",
                "cells": [
                    (
                        _area(of.last.auc.get(attack)),
                        _printed(beside[attack], 2) if attack in beside else "",
                    )
                    for attack in audit.attacks
                ],
            }
        )
    if audit.untrained is not None:
        cells = [(_area(audit.untrained.auc.get(attack)), "") for attack in audit.attacks]
        nothing = {"images": "", "accuracy": "-", "paper_accuracy": ""}
        rows.append({"name": "Nothing yet", **nothing, "cells": cells})
    return rows


def _augmented(audit: Membership) -> str:
    return "augmented" if audit.training.augmented else "without augmentation"


def _roc(attack: str, targets: Mapping[str, Targets], identity: str) -> Drawing:
    lines = [Line(of.roc.fpr, of.roc.tpr[attack], kind) for kind, of in enumerate(targets.values())]
    spoken = "; ".join(
        f"trained on {_TRAINED_ON[name]}: area {_area(of.last.auc.get(attack))}"
        for name, of in targets.items()
    )
    title = _ATTACKS.get(attack, attack)
    return Drawing(
        title=title,
        note="",
        alt=f"Curve of the attack {title}: members found over others taken for members. {spoken}.",
        svg=Markup(audit_plots.roc(lines, identity=identity)),
        keys=_keys(_SHORT[name] for name in targets),
    )


def _courses(audit: Membership, targets: Mapping[str, Targets], identity: str) -> list[Drawing]:
    """One attack's area, and the accuracy, while the networks are trained.

    Not the largest area of all attacks: the largest of several guesses is above 0.5.
    """

    def drawn(title: str, vertical: str, name: str, lines: Sequence[Line]) -> Drawing:
        svg = audit_plots.course(
            lines,
            identity=f"{identity}-{name}",
            horizontal="training steps",
            vertical=vertical,
            log=True,
        )
        ends = "; ".join(
            f"trained on {_TRAINED_ON[who]}: {line.y[0]:.3g} after {line.x[0]:,.0f} steps, "
            f"{line.y[-1]:.3g} after {line.x[-1]:,.0f}"
            for who, line in zip(targets, lines, strict=True)
        )
        keys = _keys(_SHORT[who] for who in targets)
        return Drawing(title, "", f"{title}. {ends}.", Markup(svg), keys)

    curves = [sorted(of.curve, key=lambda point: point.steps) for of in targets.values()]
    steps = [tuple(float(point.steps) for point in curve) for curve in curves]
    accuracies = [tuple(100 * point.accuracy.mean for point in curve) for curve in curves]
    figures = [drawn("Test accuracy of the attacked", "%", "accuracies", _lines(steps, accuracies))]
    followed = _followed(audit, curves)
    if followed is not None:
        areas = [tuple(point.auc[followed].mean for point in curve) for curve in curves]
        title = f"{_ATTACKS.get(followed, followed)} as training goes on"
        area = "area under the curve"
        figures.insert(0, drawn(title, area, "areas", _lines(steps, areas)))
    return figures


def _followed(audit: Membership, curves: Sequence[Sequence[Attacked]]) -> str | None:
    """The attack that is drawn over the steps: the paper's, else the first; None if none can."""
    points = [point for curve in curves for point in curve]
    names = (_FOLLOWED, *audit.attacks)
    return next((name for name in names if all(name in point.auc for point in points)), None)


def _lines(steps: Sequence[_Points], values: Sequence[_Points]) -> list[Line]:
    return [Line(x, y, kind) for kind, (x, y) in enumerate(zip(steps, values, strict=True))]


# Continual learning


def _continual(run: RunRecord, audit: Continual, identity: str) -> dict[str, Any]:
    printed = audits.lessons(run)
    return {
        "how": (
            f"For each task {', '.join(training_texts(audit.training, audit.networks))}; "
            f"classes in {'random order' if audit.order == 'random' else 'the order of the data'}"
        ),
        "average": percent(audit.average_accuracy),
        "paper": _title(printed, method=True),
        "departures": (
            (
                *_unlike(run, printed),
                *audits.of_continual(audit, run, next(iter(printed.values()))).phrases,
            )
            if printed
            else ()
        ),
        "baselines": any(task.baseline is not None for task in audit.tasks),
        "rows": [
            {
                "classes": task.classes_so_far,
                "images": f"{task.images:,}",
                "accuracy": accuracy_text(task.accuracy),
                "baseline": accuracy_text(task.baseline) if task.baseline else "",
                "paper": f"{printed[task.classes_so_far].value:.1f}"
                if task.classes_so_far in printed
                else "",
            }
            for task in audit.tasks
        ],
        "figure": _course_of_tasks(audit, printed, identity),
        "warnings": audit.warnings,
    }


def _course_of_tasks(audit: Continual, printed: Mapping[int, Row], identity: str) -> Drawing:
    classes = tuple(float(task.classes_so_far) for task in audit.tasks)
    means = [100 * task.accuracy.mean for task in audit.tasks]
    lines = [("distilled", Line(classes, tuple(means), 0))]
    random = [(c, t.baseline.mean) for c, t in zip(classes, audit.tasks, strict=True) if t.baseline]
    if random:
        at, values = zip(*random, strict=True)
        lines.append(("random real images", Line(at, tuple(100 * v for v in values), 1)))
    if printed:
        values = tuple(row.value for row in printed.values())
        lines.append((_title(printed, method=True), Line(tuple(map(float, printed)), values, 2)))
    svg = audit_plots.course(
        [line for _, line in lines],
        identity=identity,
        horizontal="classes so far",
        vertical="test accuracy, %",
        ticks=classes if len(classes) <= 10 else None,
    )
    spoken = "; ".join(
        f"{name}: {line.y[0]:.1f} on {line.x[0]:.0f} classes, {line.y[-1]:.1f} on {line.x[-1]:.0f}"
        for name, line in lines
    )
    keys = tuple(Key(_SHAPES[line.kind], name) for name, line in lines) if len(lines) > 1 else ()
    return Drawing(
        title="After each task.",
        note="Fresh networks, on the classes so far.",
        alt=f"Accuracy in percent over the classes so far. {spoken}.",
        svg=Markup(svg),
        keys=keys,
    )


def _keys(names: Iterable[str]) -> tuple[Key, ...]:
    listed = list(names)
    return tuple(map(Key, _SHAPES, listed)) if len(listed) > 1 else ()


def _area(summary: Accuracy | None) -> str:
    if summary is None:
        return "-"
    spread = f" ± {summary.std:.2f}" if len(summary.values) > 1 else ""
    return f"{summary.mean:.2f}{spread}"


def _printed(row: Row, digits: int) -> str:
    spread = "" if row.std is None else f" ± {row.std:.{digits}f}"
    return f"{row.value:.{digits}f}{spread}"


def _title(printed: Mapping[Any, Row], *, method: bool = False) -> str:
    """The table that these numbers stand in, and whose they are; empty for none."""
    row = next(iter(printed.values()), None)
    if row is None:
        return ""
    return f"{row.title}: {row.method}" if method else row.title


def _unlike(run: RunRecord, printed: Mapping[Any, Row]) -> tuple[str, ...]:
    """What sets the run apart from the row that these numbers are of."""
    row = next(iter(printed.values()), None)
    return (_NO_ROW,) if row is None else departures.of_set(row, run)
