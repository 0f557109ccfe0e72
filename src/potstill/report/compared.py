"""What the page shows of a comparison: a table for rows that may be held together, and pictures."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from potstill.comparison import OWN, Comparison, Row, ordered
from potstill.report import side_by_side
from potstill.report.drawings import Drawing
from potstill.text import (
    accuracy_text,
    count,
    duration,
    network_detail,
    network_text,
    percent,
    points,
    short_network_text,
)


def compared_view(found: Comparison, label: str, number: int) -> dict[str, Any]:
    """What the template needs of the comparison that is the page's so many-th, from 1."""
    anchor = f"comparison-{number}"
    teacher = found.teacher
    return {
        "anchor": anchor,
        "label": label,
        "title": found.title,
        "figures": _drawings(found, anchor) if found.rows else [],
        "groups": [_group(found, rows) for rows in ordered(found.rows)],
        "notes": found.notes,
        "missing": [
            (
                f"{one.name} at {count(one.images_per_class, 'image')} per class, seed {one.seed}",
                one.asked,
                one.why,
            )
            for one in found.missing
        ],
        "teacher": _teacher(teacher) if teacher else "",
    }


def _drawings(found: Comparison, anchor: str) -> list[Drawing]:
    alt = side_by_side.alt(found)
    note = "mean and standard deviation over all networks of all seeds"
    drawn = [
        Drawing("Accuracy", note, alt, Markup(side_by_side.element(found, f"{anchor}-images")))
    ]
    if any(row.bytes for row in found.rows):
        svg = Markup(side_by_side.element(found, f"{anchor}-bytes", "bytes"))
        drawn.append(Drawing("Accuracy for its price", note, alt, svg))
    return drawn


def _group(found: Comparison, rows: list[Row]) -> dict[str, Any]:
    first = rows[0]
    per_class = f"{count(first.images_per_class, 'image')} per class"
    if first.asked == OWN:
        title, how = f"{per_class}, each method's own protocol", ""
    else:
        lasting = "" if first.epochs is None else f", {count(first.epochs, 'epoch')}"
        title = f"{per_class}, protocol {first.protocol}{lasting}"
        how = (
            f"{network_text(first.network)}; {count(first.networks, 'network')} on each set, "
            f"each shown {first.shown:,} images."
        )
    return {"title": title, "how": how, "rows": [_row(found, row) for row in rows]}


def _row(found: Comparison, row: Row) -> dict[str, Any]:
    beside = found.beside(row)
    means = zip(row.seeds, row.by_seed, strict=True)
    return {
        "method": row.method,
        "name": f"beside {', '.join(row.beside)}" if row.random else row.name,
        "random": row.random,
        "protocol": row.protocol,
        "network": short_network_text(row.network),
        "network_detail": network_detail(row.network),
        "accuracy": accuracy_text(row.accuracy),
        "networks": count(len(row.accuracy.values), "network"),
        "seeds": ", ".join(f"{seed}: {percent(mean)}" for seed, mean in means),
        "gain": "" if beside is None else points(row.accuracy.mean - beside.accuracy.mean),
        "bytes": "" if row.bytes is None else f"{row.bytes:,}",
        "shown": f"{row.shown:,}",
        "time": "" if row.seconds is None else duration(row.seconds),
    }


def _teacher(stated: dict[str, Any]) -> str:
    accuracy = stated.get("accuracy")
    known = f", {percent(accuracy)} % on the test set" if isinstance(accuracy, float) else ""
    return f"{str(stated.get('digest', ''))[:12]}{known}"
