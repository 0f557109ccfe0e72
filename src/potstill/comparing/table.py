"""From what lies in the sets to the table of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from potstill import storage
from potstill.comparing.conditions import Condition
from potstill.comparing.lineup import Wanted
from potstill.comparing.work import Place, Problem, results_of
from potstill.comparison import RANDOM, Comparison, Missing, Row, ordered
from potstill.data.distilled import DistilledDataset
from potstill.errors import PotstillError
from potstill.evaluation import price
from potstill.methods.product import portable
from potstill.results import Accuracy, Evaluation
from potstill.text import data_set_text


@dataclass
class _Line:
    """Results that one row is made of, by seed."""

    wanted: Wanted
    condition: Condition
    shown: int
    results: dict[int, Evaluation] = field(default_factory=dict)
    making: list[float] = field(default_factory=list)


@dataclass
class _Random:
    """Random real images that were scored in one way, by seed, and the methods beside them."""

    line: _Line
    bytes: int | None
    accuracies: dict[int, Accuracy] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)


def tabulate(
    sets: Sequence[Wanted],
    ways: Sequence[Callable[[Wanted], Condition]],
    place: Place,
    problems: Sequence[Problem],
) -> Comparison:
    """The table of what was measured; sets that cannot be read are among what is missing."""
    lines: dict[tuple[object, ...], _Line] = {}
    randoms: dict[tuple[object, ...], _Random] = {}
    missing: list[Missing] = []
    why = {(one.wanted.digest, one.asked): one for one in problems}
    teacher = place.labeller if place.teacher and place.teacher.exists() else None
    stated = None if teacher is None else teacher.digest
    fingerprint: str | None = None
    for way in ways:
        for one in sets:
            condition = way(one)
            problem = why.get((one.digest, condition.asked)) or why.get((one.digest, None))
            try:
                found = results_of(one, condition, stated)
            except PotstillError as error:
                found, problem = None, Problem(one, None, str(error), True)
            if found is None or not found[1]:
                missing.append(_missing(one, condition, problem))
                continue
            dataset, (result, *_) = found
            fingerprint = fingerprint or result.source_fingerprint
            line = _line(lines, one, condition, dataset)
            line.results[one.seed] = result
            line.making += _made_in(one, place)
            _beside(randoms, line, result, dataset)
    rows = [_row(line) for line in lines.values()]
    rows += [_random_row(random) for random in randoms.values() if random.accuracies]
    rows = _sorted(rows, [way(sets[0]).asked for way in ways])
    info = place.bench.shape(place.data)
    return Comparison(
        dataset=portable(place.data.folder) or place.data.dataset,
        title=data_set_text(info.title),
        source_fingerprint=fingerprint,
        teacher=None if teacher is None else teacher.summary(),
        notes=tuple(_notes(rows)),
        rows=tuple(rows),
        missing=tuple(missing),
        files={one.words: str(one.path) for one in sets if one.path.exists()},
    )


def _line(
    lines: dict[tuple[object, ...], _Line],
    one: Wanted,
    condition: Condition,
    dataset: DistilledDataset,
) -> _Line:
    shown = condition.shown(dataset)
    key = (one.method, one.name, one.images_per_class, condition, shown)
    return lines.setdefault(key, _Line(one, condition, shown))


def _beside(
    randoms: dict[tuple[object, ...], _Random],
    line: _Line,
    result: Evaluation,
    dataset: DistilledDataset,
) -> None:
    """Enter the method, and what random images reached where they were scored beside it.

    Evaluations of the same seed draw the same random images, which count once.
    """
    condition, one = line.condition, line.wanted
    words = storage.canonical([condition.key(dataset), _teacher_words(result)])
    key = (one.images_per_class, condition.asked, words)
    random = randoms.setdefault(key, _Random(line, _random_bytes(result, dataset)))
    if one.method not in random.methods:
        random.methods.append(one.method)
    if result.baseline is not None:
        values = result.baseline.values
        random.accuracies.setdefault(result.seed, Accuracy.of(values))


def _random_bytes(result: Evaluation, dataset: DistilledDataset) -> int | None:
    """The price of as many real images at 8 bits, labelled as the set's are; None if unknown."""
    if result.price is None:
        return None
    images, classes = dataset.labels.shape
    label_bytes = {
        "one an image": price.soft_label_bytes(images, classes),
        "on the fly": 0,
        "stored": result.price.labels,
    }
    labels = label_bytes.get(result.labels or "", price.class_bytes(images, classes))
    pixels = price.image_bytes(images, dataset.shape[1:])
    return pixels + labels + result.price.preprocessing + result.price.labeller


def _teacher_words(result: Evaluation) -> object:
    """What sets teachers apart, whatever the seed they were trained from."""
    if not isinstance(result.teacher, dict):
        return None
    return [result.teacher.get("network"), result.teacher.get("epochs")]


def _made_in(one: Wanted, place: Place) -> list[float]:
    """Seconds that the set took, a teacher left out; none where that is not known."""
    try:
        record = place.bench.record(one.path.parent) if one.path.exists() else None
    except PotstillError:
        return []
    if record is None or record.status != "finished" or not record.timing.total:
        return []
    return [record.timing.total - record.timing.parts.get("teacher", 0.0)]


def _row(line: _Line) -> Row:
    one, results = line.wanted, [line.results[seed] for seed in sorted(line.results)]
    spent = [r.seconds / (2 if r.baseline else 1) for r in results if r.seconds is not None]
    return Row(
        method=one.method,
        name=one.name,
        images_per_class=one.images_per_class,
        asked=line.condition.asked,
        protocol=line.condition.protocol,
        network=line.condition.network,
        networks=line.condition.networks,
        epochs=results[0].epochs,
        shown=line.shown,
        accuracy=_pooled(result.accuracy for result in results),
        seeds=tuple(sorted(line.results)),
        by_seed=tuple(result.accuracy.mean for result in results),
        bytes=None if results[0].price is None else results[0].price.total,
        seconds=fmean(line.making) if line.making else None,
        scoring_seconds=fmean(spent) if spent else None,
    )


def _random_row(random: _Random) -> Row:
    row = _row(random.line)
    seeds = sorted(random.accuracies)
    return row.model_copy(
        update={
            "method": RANDOM,
            "name": RANDOM,
            "beside": tuple(random.methods),
            "accuracy": _pooled(random.accuracies[seed] for seed in seeds),
            "seeds": tuple(seeds),
            "by_seed": tuple(random.accuracies[seed].mean for seed in seeds),
            "bytes": random.bytes,
            "seconds": None,
            "scoring_seconds": None,
        }
    )


def _pooled(accuracies: Iterable[Accuracy]) -> Accuracy:
    return Accuracy.of([value for accuracy in accuracies for value in accuracy.values])


def _sorted(rows: Sequence[Row], asked: Sequence[str]) -> list[Row]:
    """By protocol as asked, images per class, and method by method with random images last."""
    order = {name: place for place, name in enumerate(asked)}
    return sorted(rows, key=lambda r: (order[r.asked], r.images_per_class, r.random))


def _missing(one: Wanted, condition: Condition, problem: Problem | None) -> Missing:
    return Missing(
        method=one.method,
        name=one.name,
        images_per_class=one.images_per_class,
        asked=condition.asked,
        seed=one.seed,
        why="not begun" if problem is None else problem.why,
        failed=problem is not None and problem.failed,
    )


def _notes(rows: Sequence[Row]) -> Iterable[str]:
    """What is not equal where a reader would take it to be."""
    for group in ordered(rows):
        first = group[0]
        where = f"{first.asked}, {first.images_per_class} per class"
        if len({(row.protocol, row.network, row.epochs) for row in group}) > 1:
            yield f"{where}: protocols or networks differ from method to method"
        if first.asked != "own" and len({row.shown for row in group}) > 1:
            shown = ", ".join(f"{row.method} {row.shown:,}" for row in group)
            yield f"{where}: networks are not shown as many images ({shown}), for mirror images"
        randoms = [row for row in group if row.random]
        if first.asked != "own" and len(randoms) > 1:
            yield f"{where}: random real images stand there once for each preprocessing"
        if len({len(row.seeds) for row in group}) > 1:
            seeds = ", ".join(f"{row.method} {len(row.seeds)}" for row in group)
            yield f"{where}: not as many seeds everywhere ({seeds})"
