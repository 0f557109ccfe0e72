"""Numbers and names as a reader wants them."""

from __future__ import annotations

from potstill.config import NetworkRecipe
from potstill.data.facts import DATASETS
from potstill.results import Accuracy, Baseline, Evaluation, Price, Training

_ABBREVIATIONS = frozenset({"cpu", "gpu", "zca"})


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal, without the sign."""
    return f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A signed difference of fractions in percentage points."""
    text = f"{100 * abs(difference):.1f}"
    sign = "" if text == "0.0" else "+" if difference > 0 else "−"  # noqa: RUF001
    return f"{sign}{text}"


def spread(score: Accuracy, digits: int, scale: float = 1) -> str:
    """``mean ± std``, so many times as large; a single value has no spread."""
    mean = f"{scale * score.mean:.{digits}f}"
    return mean if len(score.values) < 2 else f"{mean} ± {scale * score.std:.{digits}f}"


def accuracy_text(accuracy: Accuracy, digits: int = 1) -> str:
    """``mean ± std`` in percent, without the sign; a single network has no spread."""
    return spread(accuracy, digits, 100)


def training_texts(training: Training, networks: int, starts: int = 1) -> tuple[str, ...]:
    """What must stand beside an accuracy, part by part: what was trained, how, and how often.

    Args:
        training: how the networks were trained.
        networks: number of networks trained, in all.
        starts: number of runs, which differ in their seed alone, that they belong to.
    """
    return (
        network_text(training.network),
        protocol_text(training),
        count(networks, "network") + (f" of {count(starts, 'start')}" if starts > 1 else ""),
    )


def protocol_text(training: Training) -> str:
    """The protocol, and for how many epochs if it counts them."""
    lasting = "" if training.epochs is None else f", {count(training.epochs, 'epoch')}"
    return f"protocol {training.protocol}{lasting}"


def result_text(result: Evaluation, digits: int = 1) -> str:
    """An accuracy with all that made it.

    Such as ``82.0 ± 1.6 % (ConvNet, depth 3, width 128, no norm, protocol rcig-paper, 5
    networks)``.
    """
    how = ", ".join(training_texts(result.training, len(result.accuracy.values)))
    return f"{accuracy_text(result.accuracy, digits)} % ({how})"


def baseline_text(baseline: Baseline) -> str:
    """What other images were trained on, such as ``equal-bytes random (sl, 97 images)``."""
    images = "" if baseline.images is None else count(baseline.images, "image")
    detail = ", ".join(filter(None, (baseline.protocol, images)))
    return f"{baseline.kind} ({detail})" if detail else baseline.kind


def price_text(price: Price) -> str:
    """Bytes by what they are for, and how much they are, in a line."""
    parts = {
        "images": price.images,
        "labels": price.labels,
        "preprocessing": price.preprocessing,
        "labeller": price.labeller,
    }
    kept = " + ".join(f"{size_text(size)} {name}" for name, size in parts.items() if size)
    return (
        f"{kept}; {size_text(price.bits_per_class, 'bit')} a class, "
        f"{100 * price.storage_ratio:.3g} % of the training set, as "
        f"{count(price.random_images, 'random image')} with soft labels; "
        f"{price.operations:.2g} operations a network"
    )


def size_text(size: float, unit: str = "B") -> str:
    """Such as ``800 B``, ``31.4 kB``, ``44.7 MB``; thousands, not 1024s."""
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {prefix}{unit}"
    return f"{size:.3g} {unit}"


def duration(seconds: float) -> str:
    """Such as ``0.4 s``, ``42 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def steps_text(done: int, planned: int | None, groups: int = 1) -> str:
    """``done`` alone where it is all or all is unknown, else ``done of planned``.

    What is planned for ``groups`` that share it is written as a recipe counts: ``10 x 1,000``.
    """
    if planned is None:
        return f"{done:,}"
    whole = f"{planned:,}" if groups == 1 else f"{groups:,} x {planned // groups:,}"
    return whole if done == planned else f"{done:,} of {whole}"


def count(number: int, noun: str) -> str:
    """``1 image``, ``10 images``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def spaced(name: str) -> str:
    """``inner_steps`` as ``Inner steps``."""
    words = name.replace("_", " ").split()
    text = " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)
    return text[:1].upper() + text[1:]


def short_network_text(network: NetworkRecipe) -> str:
    """The network's family, such as ``ConvNet`` or ``resnet18``."""
    return "ConvNet" if network.name == "convnet" else network.name


def network_detail(network: NetworkRecipe) -> str:
    """What tells networks of one family apart, such as ``depth 3, width 64 to 256, batch norm``.

    The width is that of every block, or of the first and the last. Empty for networks of other
    libraries and of a user's, whose names say all.
    """
    if network.foreign or network.library:
        return ""
    normalisation = "no" if network.normalisation == "none" else network.normalisation
    if network.name != "convnet":
        return f"{normalisation} norm"
    last = network.width * network.growth ** (network.depth - 1)
    width = f"{network.width}" if last == network.width else f"{network.width} to {last}"
    return f"depth {network.depth}, width {width}, {normalisation} norm"


def network_text(network: NetworkRecipe) -> str:
    """Family and detail, such as ``ConvNet, depth 3, width 128, instance norm``."""
    return ", ".join(filter(None, (short_network_text(network), network_detail(network))))


def data_set_text(name: str) -> str:
    """The name that papers use, where there is one, else the name itself."""
    return DATASETS[name].title if name in DATASETS else name
