"""One run as the page shows it: every value a finished piece of text or drawing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from potstill.papers import Row
from potstill.papers.answers import published
from potstill.report import drawings, methods, plots
from potstill.report.audit_views import audit_views
from potstill.report.comparison import Comparison, Cost
from potstill.report.starts import Starts
from potstill.results import Distances, Diversity, Evaluation
from potstill.runs.records import RunRecord
from potstill.text import (
    accuracy_text,
    baseline_text,
    count,
    data_set_text,
    duration,
    network_detail,
    percent,
    points,
    price_text,
    short_network_text,
    size_text,
    spaced,
    steps_text,
    training_texts,
)

_STATUS = {
    "running": "running or cut off",
    "finished": "finished",
    "stopped": "stopped",
    "not recorded": "not recorded",
}


def run_view(run: RunRecord, place: int) -> dict[str, Any]:
    """What the template's section on one run needs."""
    anchor = f"run-{place}"
    series = methods.series(run)
    return {
        "anchor": anchor,
        "label": run.label,
        "description": "" if run.recipe is None else run.recipe.description,
        "missing": [*run.missing, *_unshown(run)],
        "facts": _facts(run),
        "tiles": drawings.tiles(run.dataset) if run.dataset and not _unshown(run) else None,
        "curves": drawings.curves(series, run.description.panels, anchor),
        "smoothed": any(plots.is_smoothed(line) for line in series.values()),
        "results": [_result_row(result) for result in run.results],
        "earlier": [_result_row(result) for result in run.earlier],
        "warnings": [*_mixed(run), *dict.fromkeys(w for r in run.results for w in r.warnings)],
        "accuracies": drawings.accuracies(run.results, anchor),
        "labels": _labels(run, anchor),
        "diversity": [
            _diversity(audit, f"{anchor}-diversity-{number}")
            for number, audit in enumerate(run.diversity, start=1)
        ],
        **audit_views(run, anchor),
        "parts": _parts(run),
        "preprocessing": _preprocessing(run),
        "machine": _pairs(run.machine),
        "versions": _pairs(run.versions, humanise=False),
        "again": run.command,
        "shipped": run.shipped,
        "recipe_text": run.recipe_text,
    }


def _mixed(run: RunRecord) -> list[str]:
    """A warning if no single machine gives these bytes again."""
    mixed = run.header.get("surroundings", {}).get("mixed", ())
    return [f"a part was made in other surroundings: {', '.join(mixed)}"] if mixed else []


def group_view(group: Starts, anchors: Mapping[str, str]) -> dict[str, Any]:
    """What the summary's row on runs of one recipe needs; ``anchors`` of the runs' sections."""
    first, result = group.runs[0], group.result
    baseline = result.baseline if result else None
    seconds = math.fsum(run.timing.total for run in group.runs)
    network, detail = _network(first)
    return {
        "name": group.label,
        "anchor": anchors[first.label],
        "seeds": [(anchors[run.label], run.seed) for run in group.runs]
        if len(group.runs) > 1
        else [],
        "recipe_name": first.name,
        "dataset_name": first.data_title,
        "images_per_class": first.images_per_class,
        "method": first.description.title,
        "network": network,
        "network_detail": detail,
        "iterations": " / ".join(
            dict.fromkeys(steps_text(run.iteration, run.planned, run.groups) for run in group.runs)
        ),
        "status": " / ".join(dict.fromkeys(_STATUS[run.status] for run in group.runs)),
        "time": duration(seconds) if seconds else "-",
        "accuracy": accuracy_text(result.accuracy) if result else "",
        "how": group.how,
        "baseline": accuracy_text(baseline) if baseline else "",
        "beside": (
            count(len(baseline.values), "network"),
            f"{points(result.accuracy.mean - baseline.mean)} gained",
        )
        if result and baseline
        else (),
    }


def comparison_view(run: dict[str, Any], comparison: Comparison) -> dict[str, Any]:
    """What the template's row on one paper's number needs."""
    row, ours = comparison.row, comparison.ours
    return {
        "anchor": run["anchor"],
        "label": run["label"],
        "row": _row_text(row),
        "paper": _mean_std(comparison.paper_mean, comparison.paper_std),
        "published": published(row),
        "ours": accuracy_text(ours.accuracy) if ours else "",
        "how": _how(ours) if ours else (),
        "best": accuracy_text(ours.best_on_test) if ours and ours.best_on_test else "",
        "difference": points(comparison.difference) if comparison.difference is not None else "",
        "departures": comparison.departures,
    }


def cost_view(run: dict[str, Any], cost: Cost) -> dict[str, Any]:
    """A line of the comparison of costs with a paper: both in seconds, and what differs."""
    row = _row_text(cost.row)
    return {
        "anchor": run["anchor"],
        "label": run["label"],
        "row": f"{row}: seconds for an image of each class",
        "paper": f"{cost.paper:.1f} s",
        "published": "",
        "ours": "" if cost.ours is None else f"{cost.ours:.1f} s",
        "how": (cost.device,),
        "best": "",
        "difference": "" if cost.ours is None else f"{100 * cost.ours / cost.paper:.0f} %",
        "departures": cost.departures,
    }


def _row_text(row: Row) -> str:
    data = f"{data_set_text(row.dataset)}, {row.images_per_class} per class"
    to = f" to {row.eval_arch}" if row.eval_arch else ""
    where = f", {row.distill_arch}{to}" if row.distill_arch else ""
    return f"{row.title}: {row.method}, {data}{where}"


def _network(run: RunRecord) -> tuple[str, str]:
    """The network that the set is made for, in two lines."""
    network = run.network
    return ("-", "") if network is None else (short_network_text(network), network_detail(network))


def _unshown(run: RunRecord) -> list[str]:
    """Why there is no picture of a set that is there, if so."""
    if run.dataset is None or run.dataset.has_pictures:
        return []
    return [
        "The set's file holds no ZCA matrix, so that its images are not shown here; potstill show "
        "draws them with the real data at hand."
    ]


def _labels(run: RunRecord, anchor: str) -> drawings.Drawing | None:
    """The map of the labels, where they were learned."""
    learned = run.description.learned_labels
    return drawings.labels(run.dataset, anchor) if run.dataset and learned else None


def _diversity(audit: Diversity, identity: str) -> dict[str, Any]:
    rows = [("Distilled images", *_distances(audit.distance))]
    if audit.real is not None:
        rows.append(("Random real images", *_distances(audit.real)))
    return {
        "rows": rows,
        "relative": "" if audit.relative is None else f"{audit.relative:.2f}",
        "figure": drawings.embedding(audit, identity),
    }


def _distances(distances: Distances) -> tuple[str, str, str]:
    """Mean, least and largest over the classes."""
    values = [value for value in distances.classes if value is not None]
    if distances.mean is None or not values:
        return "-", "-", "-"
    return f"{distances.mean:.4g}", f"{min(values):.4g}", f"{max(values):.4g}"


def _facts(run: RunRecord) -> list[tuple[str, str, str]]:
    result = run.headline
    size = f"{run.images_per_class} per class"
    images = f"{len(run.dataset)} in all" if run.dataset else "not distilled yet"
    facts = [
        ("Data set", run.data_title, ""),
        ("Images", size, images),
        ("Method", run.description.title, run.description.detail),
        ("Made for", *_network(run)),
        *methods.facts(run),
        ("Iterations", steps_text(run.iteration, run.planned, run.groups), _STATUS[run.status]),
        ("Time", duration(run.timing.total) if run.timing.total else "not recorded", ""),
        ("Seed", str(run.seed), ""),
    ]
    if result is not None:
        facts.append(("Accuracy", f"{accuracy_text(result.accuracy)} %", ", ".join(_how(result))))
        if result.baseline is not None:
            beside = training_texts(result.training, len(result.baseline.values))
            text = f"{accuracy_text(result.baseline)} %"
            facts.append((result.baseline.kind.capitalize(), text, ", ".join(beside)))
    return facts


def _how(result: Evaluation) -> tuple[str, ...]:
    return training_texts(result.training, len(result.accuracy.values))


def _lasting(result: Evaluation) -> str:
    if result.epochs is not None:
        return count(result.epochs, "epoch")
    return "" if result.presentations is None else count(result.presentations, "image") + " shown"


def _result_row(result: Evaluation) -> dict[str, Any]:
    baseline = result.baseline
    return {
        "protocol": result.protocol,
        "network": short_network_text(result.network),
        "network_detail": network_detail(result.network),
        "steps": f"{result.steps:,}",
        "epochs": _lasting(result),
        "labels": f"labels {result.labels}" if result.labels else "",
        "best": accuracy_text(result.best_on_test) if result.best_on_test else "",
        "accuracy": accuracy_text(result.accuracy),
        "networks": count(len(result.accuracy.values), "network"),
        "each": ", ".join(percent(value) for value in result.accuracy.values),
        "baseline": accuracy_text(baseline) if baseline else "",
        "baseline_how": count(len(baseline.values), "network") if baseline else "",
        "beside": [f"{baseline_text(one)} {accuracy_text(one)}" for one in result.beside],
        **_price(result),
        "seed": result.seed,
        "time": duration(result.seconds) if result.seconds is not None else "-",
    }


def _price(result: Evaluation) -> dict[str, str]:
    """The bytes that a set, its labels and their maker take; all of it where one points."""
    price = result.price
    if price is None:
        return {"size": "", "bits": "", "price": ""}
    return {
        "size": size_text(price.total),
        "bits": f"{size_text(price.bits_per_class, 'bit')} a class",
        "price": price_text(price),
    }


def _parts(run: RunRecord) -> list[dict[str, Any]]:
    parts = sorted(run.timing.parts.items(), key=lambda part: (-part[1], part[0]))
    if not parts:
        return []
    rest = run.timing.total - sum(seconds for _, seconds in parts)
    if rest > 0.005 * run.timing.total:
        parts.append(("everything else", rest))
    total = max(run.timing.total, sum(seconds for _, seconds in parts)) or 1.0
    longest = max(seconds for _, seconds in parts) or 1.0
    return [
        {
            "name": spaced(name),
            "time": duration(seconds),
            "share": f"{100 * seconds / total:.0f} %",
            "width": f"{100 * seconds / longest:.1f}",
        }
        for name, seconds in parts
    ]


def _preprocessing(run: RunRecord) -> list[tuple[str, str]]:
    if run.dataset is None:
        data = run.data
        return _pairs({"asked for": data.preprocess, "resolution": data.resolution or "as it is"})
    preprocess = run.dataset.preprocess
    rows = _pairs(preprocess.describe())
    for name, tensor in sorted(preprocess.tensors().items()):
        numbers = tensor.flatten().tolist() if tensor.numel() <= 3 else None
        shape = " by ".join(str(side) for side in tensor.shape) or "1"
        text = ", ".join(f"{number:.4g}" for number in numbers) if numbers else f"{shape} numbers"
        rows.append((spaced(name), text))
    return rows


def _pairs(document: Mapping[str, Any], *, humanise: bool = True) -> list[tuple[str, str]]:
    return [
        (spaced(name) if humanise else name, _value_text(value))
        for name, value in sorted(document.items())
    ]


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, list | tuple) and len(value) <= 12:
        return ", ".join(_value_text(part) for part in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return str(value)


def _mean_std(mean: float, std: float | None) -> str:
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"
