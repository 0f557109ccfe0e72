"""What the commands say of results, sets and recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from potstill import papers
from potstill.config import NetworkRecipe, PaperRow
from potstill.text import (
    accuracy_text,
    baseline_text,
    count,
    network_text,
    price_text,
    result_text,
    training_texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from potstill.data.distilled import DistilledDataset
    from potstill.results import Distances, Diversity, Evaluation


def summary(result: Evaluation) -> list[str]:
    """An evaluation in a line or a few."""
    how = f", in {result.precision}" if result.precision else ""
    lines = [f"accuracy {result_text(result, 2)}, {count(result.steps, 'step')}{how}"]
    best, baseline = result.best_on_test, result.baseline
    if best is not None:
        lines.append(
            f"best epoch on the test set: {accuracy_text(best, 2)} % (chosen on it; not a result)"
        )
    if baseline is not None:
        lines.append(f"{baseline.kind}: {accuracy_text(baseline, 2)} %")
    for other in result.beside:
        lines.append(f"{baseline_text(other)}: {accuracy_text(other, 2)} %")
    if result.price is not None:
        lines.append(f"price: {price_text(result.price)}")
    return lines


def table(results: Sequence[Evaluation]) -> list[str]:
    """Evaluations on several networks, all trained alike, a line for each."""
    names = [network_text(result.network) for result in results]
    width = max(map(len, names))
    _, *how = training_texts(results[0].training, len(results[0].accuracy.values))
    lines = [
        f"{name:{width}}  {accuracy_text(result.accuracy, 2)} %"
        + (f"  best {accuracy_text(result.best_on_test, 2)} %" if result.best_on_test else "")
        + (f"  random {accuracy_text(result.baseline, 2)} %" if result.baseline else "")
        for name, result in zip(names, results, strict=True)
    ]
    return [", ".join(how), *lines]


def earlier(results: Sequence[Evaluation]) -> list[str]:
    """Lines on what was measured on the set before it was given the labels it has."""
    if not results:
        return []
    said = (line for result in results for line in summary(result))
    return ["measured before the labels were stored:", *said]


def diversity_summary(audit: Diversity) -> list[str]:
    """A diversity audit in a few lines."""
    lines = [f"mean squared feature distance of two images of a class: {_number(audit.distance)}"]
    if audit.real is not None:
        lines.append(f"as many random real images: {_number(audit.real)}")
        if audit.relative is not None:
            lines.append(f"ratio: {audit.relative:.3f}")
    return lines


def _number(distance: Distances) -> str:
    mean = distance.mean
    return "undefined, one image a class" if mean is None else f"{mean:.4g}"


def _whitening(preprocess: dict[str, Any]) -> dict[str, str]:
    """What there is to say of a preprocessing that needs more than the file."""
    return {} if preprocess.get("stored", True) else {"ZCA": "refitted from the source"}


def description(dataset: DistilledDataset, document: dict[str, Any]) -> list[str]:
    """A set, where it comes from, and what was measured on it, a line for each."""
    from potstill.methods.describing import description_of

    header = dataset.header
    described = description_of(header)
    images, channels, height, width = document["images"]
    facts = {
        "images": f"{images} of {height}x{width}, {'grayscale' if channels == 1 else 'RGB'}, "
        f"{document['images_per_class']} per class",
        "classes": _shortened(document["class_names"]),
        "source": f"{header['source']['name']} ({header['source']['fingerprint'][:12]})",
        **_whitening(dataset.preprocess.describe()),
        "recipe": header.get("recipe", {}).get("name") or "none",
        "method": ", ".join(filter(None, (described.title, described.detail))),
        **({"teacher": teacher_text(header["teacher"])} if "teacher" in header else {}),
        "iterations": header["iterations"],
        "seed": header["seed"],
        "protocol": header["evaluation"]["protocol"],
        "versions": ", ".join(f"{name} {number}" for name, number in header["versions"].items()),
        "made on": _made_on(header.get("surroundings")),
        "size": f"{document['bytes']} bytes",
        "digest": document["digest"],
    }
    lines = [f"{name + ':':12}{value}" for name, value in facts.items()]
    results = dataset.results
    if not results:
        lines.append("not evaluated yet; potstill evaluate does it")
    said = (line for result in results for line in summary(result))
    return [*lines, *said, *earlier(dataset.earlier_results)]


def teacher_description(document: dict[str, Any], size: int) -> list[str]:
    """A teacher, by the document and the size of its file, a line for each fact."""
    source = document["source"]
    accuracy = document["results"][-1]["accuracy"] if document["results"] else None
    facts = {
        "teacher": _network_of(document["network"]),
        "accuracy": "not measured" if accuracy is None else _on_test(accuracy),
        "trained": f"{count(document['epochs'], 'epoch')}, seed {document['seed']}",
        "images": f"{source['resolution']}x{source['resolution']}, "
        f"{'grayscale' if source['channels'] == 1 else 'RGB'}, {document['preprocess']['kind']}",
        "classes": _shortened(document["class_names"]),
        "source": f"{source['name']} ({source['fingerprint'][:12]})",
        "versions": ", ".join(f"{name} {number}" for name, number in document["versions"].items()),
        "made on": _made_on(document.get("surroundings")),
        "size": f"{size} bytes",
    }
    return [f"{name + ':':12}{value}" for name, value in facts.items()]


def teacher_text(teacher: dict[str, Any]) -> str:
    """The teacher that a set was made with, as its header has it: network, training, accuracy."""
    accuracy = teacher.get("accuracy")
    parts = [_network_of(teacher.get("network", {}))]
    parts += [count(teacher["epochs"], "epoch")] if teacher.get("epochs") else []
    parts += ["accuracy not measured" if accuracy is None else _on_test(accuracy)]
    return ", ".join(parts)


def _on_test(accuracy: float) -> str:
    return f"{100 * accuracy:.2f} % on the test images"


def _network_of(document: dict[str, Any]) -> str:
    """A teacher's network, which may be a user's or a library's."""
    named = document.get("module") or document.get("pretrained")
    try:
        return str(named) if named else network_text(NetworkRecipe.model_validate(document))
    except ValidationError:  # of a later version
        return "a network this version does not know"


def _made_on(surroundings: dict[str, Any] | None) -> str:
    if surroundings is None:
        return "not recorded"
    parts = [surroundings["device"], surroundings["processor"]]
    parts += [count(surroundings["threads"], "thread"), *surroundings["mixed"]]
    return ", ".join(parts)


def _shortened(class_names: list[str]) -> str:
    shown = ", ".join(class_names[:10])
    more = len(class_names) - 10
    return f"{len(class_names)} ({shown}{f' and {more} more' if more > 0 else ''})"


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of cells as lines of columns; the last column is as wide as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]]).rstrip()


def paper_row(row: PaperRow) -> str:
    """Which number of which table, and the number."""
    networks = " on ".join(name for name in (row.distill_arch, row.eval_arch) if name)
    name = f"Table {row.table}, {row.method}" + (f" ({networks})" if networks else "")
    seconds, accuracy = papers.find(row, papers.SECONDS), papers.find(row)
    if seconds is not None:
        return f"{name}: {seconds.value} s per image of each class"
    if accuracy is None:
        return name
    return f"{name}: {accuracy.value}{'' if accuracy.std is None else f' ± {accuracy.std}'} %"
