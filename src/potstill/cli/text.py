"""What the commands say of results, sets and recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from potstill import papers
from potstill.config import PaperRow
from potstill.networks.names import network_text

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.results import Accuracy, Distances, Diversity, Evaluation


def summary(result: Evaluation) -> str:
    """An evaluation in a line or a few."""
    networks = count(len(result.accuracy.values), "network")
    lines = [
        f"accuracy {percent(result.accuracy)} ({networks}, {_training(result)}, "
        f"{count(result.steps, 'step')})"
    ]
    best, baseline = result.best_on_test, result.baseline
    if best is not None:
        lines.append(f"best epoch on the test set: {percent(best)} (chosen on it; not a result)")
    if baseline is not None:
        lines.append(f"{baseline.kind}: {percent(baseline)}")
    return "\n".join(lines)


def table(results: list[Evaluation]) -> str:
    """Evaluations on several networks, a line for each."""
    names = [network_text(result.network) for result in results]
    width = max(map(len, names))
    lines = [
        f"{name:{width}}  {percent(result.accuracy)}"
        + (f"  best {percent(result.best_on_test)}" if result.best_on_test else "")
        + (f"  random {percent(result.baseline)}" if result.baseline else "")
        for name, result in zip(names, results, strict=True)
    ]
    return "\n".join([_training(results[0]), *lines])


def _training(result: Evaluation) -> str:
    """How networks were trained: the protocol, and its epochs if it counts them."""
    lasting = "" if result.epochs is None else f", {count(result.epochs, 'epoch')}"
    return f"protocol {result.protocol}{lasting}"


def diversity_summary(audit: Diversity) -> str:
    """A diversity audit in a few lines."""
    lines = [f"mean squared feature distance of two images of a class: {_number(audit.distance)}"]
    if audit.real is not None:
        lines.append(f"as many random real images: {_number(audit.real)}")
        if audit.relative is not None:
            lines.append(f"ratio: {audit.relative:.3f}")
    return "\n".join(lines)


def _number(distance: Distances) -> str:
    mean = distance.mean
    return "undefined, one image a class" if mean is None else f"{mean:.4g}"


def count(number: int, noun: str) -> str:
    """``1 step``, ``10 steps``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def percent(score: Accuracy) -> str:
    """Mean of fractions and, of several, their deviation."""
    return f"{spread(score, 2, 100)} %"


def spread(score: Accuracy, digits: int, scale: float = 1) -> str:
    """``mean ± deviation``, so many times as large; a single value has no deviation."""
    mean = f"{scale * score.mean:.{digits}f}"
    return mean if len(score.values) < 2 else f"{mean} ± {scale * score.std:.{digits}f}"


def description(dataset: DistilledDataset, document: dict[str, Any]) -> str:
    """A set, where it comes from, and what was measured on it, a line for each."""
    from potstill.methods.describing import description_of

    header = dataset.header
    described = description_of(header)
    count, channels, height, width = document["images"]
    facts = {
        "images": f"{count} of {height}x{width}, {'grayscale' if channels == 1 else 'RGB'}, "
        f"{document['images_per_class']} per class",
        "classes": _shortened(document["class_names"]),
        "source": f"{header['source']['name']} ({header['source']['fingerprint'][:12]})",
        "recipe": header.get("recipe", {}).get("name") or "none",
        "method": ", ".join(filter(None, (described.title, described.detail))),
        "iterations": header["iterations"],
        "seed": header["seed"],
        "protocol": header["evaluation"]["protocol"],
        "versions": ", ".join(f"{name} {number}" for name, number in header["versions"].items()),
        "size": f"{document['bytes']} bytes",
        "digest": document["digest"],
    }
    lines = [f"{name + ':':12}{value}" for name, value in facts.items()]
    results = dataset.results
    if not results:
        lines.append("not evaluated yet; potstill evaluate does it")
    return "\n".join(lines + [summary(result) for result in results])


def _shortened(class_names: list[str]) -> str:
    shown = ", ".join(class_names[:10])
    more = len(class_names) - 10
    return f"{len(class_names)} ({shown}{f' and {more} more' if more > 0 else ''})"


def paper_row(row: PaperRow) -> str:
    """Which number of which table, and the number."""
    networks = " on ".join(name for name in (row.distill_arch, row.eval_arch) if name)
    name = f"Table {row.table}, {row.method}" + (f" ({networks})" if networks else "")
    seconds = papers.paper_seconds(row)
    if seconds is not None:
        return f"{name}: {seconds} s per image of each class"
    value = papers.paper_value(row)
    if value is None:
        return name
    mean, std = value
    return f"{name}: {mean}{'' if std is None else f' ± {std}'} %"
