"""How different from each other a class's distilled images are, as a teacher sees them.

For the images s_1 ... s_n of a class, and g the teacher's last convolutional output, all of it,
DWA's eq. 21 is

    D = sum over i, j of |g(s_i) - g(s_j)|^2 = 2 n sum over i of |g(s_i) - mean of g|^2.

The sum grows with n, so that sets of different sizes are compared by D / (n (n - 1)), the mean
over pairs of two different images. The paper's Figure 4 shows normalised distances and does
not say by what; here the unit is the same mean for as many real images, drawn at random: 1 is
as diverse as the data. Beside the distances stand t-SNE coordinates of the teacher's logits for
distilled and real images of some classes (Figure 1).
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from potstill import rng
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, sample_per_class
from potstill.errors import DataError, NumericalError
from potstill.results import Distances, Diversity, Embedding, Observer
from potstill.teacher import Teacher

_BATCH = 100
# Of Figure 1's kind of plot: more classes and points hide each other.
_SHOWN_CLASSES = 10
_SHOWN_REAL = 50
_FEWEST_POINTS = 4
_PERPLEXITY = 30.0


def diversity(
    dataset: DistilledDataset,
    teacher: Teacher,
    source: SourceDataset | None = None,
    *,
    shown: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Diversity:
    """Feature distances of a distilled set, of any method, and a map of its images.

    The teacher sees pictures: the set's images as 8-bit pixels, through its own preprocessing.
    An image belongs to the class of its largest label.

    Args:
        dataset: the distilled set.
        teacher: trained on the data the set stands for.
        source: that data, to have real images beside the distilled ones.
        shown: the classes on the map; the first ten if None.
        device: where the teacher runs.
        seed: seed of the draw of real images and of the map.

    Raises:
        DataError: set, teacher and source differ in classes or in the images' shape, or a
            class to be shown does not exist.
        NumericalError: what the teacher makes of the images is not finite.
    """
    start = time.perf_counter()
    _check(dataset, teacher, source)
    if source is not None:
        dataset = dataset.refitted(source, device=device)
    chosen = _chosen(dataset, shown)
    eye = _Eye(teacher, device)
    distilled = _pictures(dataset)
    distance = _distances(eye, distilled, len(dataset.class_names))
    beside: dict[str, Any] = {}
    shown_real: dict[int, Tensor] = {}
    if source is not None:
        drawn = _draw(source, max(2, dataset.images_per_class), seed, "audits/diversity/real")
        real = _distances(eye, drawn, len(dataset.class_names))
        ours, theirs = distance.mean, real.mean
        beside = {
            "real": real,
            "relative": ours / theirs if ours is not None and theirs else None,
            "source_fingerprint": source.fingerprint,
        }
        shown_real = _shown_real(source, seed)
    return Diversity(
        kind="diversity",
        dataset=str(dataset.header["source"].get("name", "unknown")),
        images=len(dataset),
        images_per_class=dataset.images_per_class,
        artefact_digest=dataset.digest,
        teacher=Observer(digest=teacher.digest, layer=eye.layer),
        distance=distance,
        seed=seed,
        embedding=_embedding(eye, (distilled,), shown_real, chosen, dataset.class_names, seed),
        seconds=time.perf_counter() - start,
        **beside,
    )


def common_map(
    datasets: Mapping[str, DistilledDataset],
    teacher: Teacher,
    source: SourceDataset | None = None,
    *,
    shown: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Embedding | None:
    """Several distilled sets of the same classes on one map, as in Figure 1.

    The arguments are those of :func:`diversity`, but for the sets, each under the name that the
    map gives it. None for fewer than 4 points, or if all are alike.

    Raises:
        DataError, NumericalError: as :func:`diversity`.
    """
    if source is not None:
        datasets = {name: each.refitted(source, device=device) for name, each in datasets.items()}
    first, *_ = datasets.values()
    for dataset in datasets.values():
        _check(dataset, teacher, source)
        if dataset.class_names != first.class_names:
            raise DataError("the sets have other classes; draw a map of each")
    chosen = _chosen(first, shown)
    real = {} if source is None else _shown_real(source, seed)
    pictures = [_pictures(dataset) for dataset in datasets.values()]
    eye = _Eye(teacher, device)
    return _embedding(eye, pictures, real, chosen, first.class_names, seed, tuple(datasets))


def pair_sum(features: Tensor) -> float:
    """Eq. 21 of features (n, ...): the squared distances of all ordered pairs, summed."""
    rows = features.flatten(1).double()
    return 2 * len(rows) * float((rows - rows.mean(0)).square().sum())


@dataclass(frozen=True)
class _Seen:
    """What the teacher makes of n images: features (n, F) and logits (n, C), on the CPU."""

    features: Tensor
    logits: Tensor


class _Eye:
    """A copy of a teacher that also gives its last convolutional output.

    A network whose only convolution cuts the image into patches (a transformer) gives what its
    last linear layer sees instead.
    """

    def __init__(self, teacher: Teacher, device: str | torch.device) -> None:
        self._preprocess, self._device = teacher.preprocess, device
        self._network = copy.deepcopy(teacher.network).to(device).eval()
        self._caught: list[Tensor] = []
        shape = (1, teacher.channels, teacher.resolution, teacher.resolution)
        convolutions, linear = self._order(torch.zeros(shape, device=device))
        if len(convolutions) > 1:
            self.layer = convolutions[-1]
            self._network.get_submodule(self.layer).register_forward_hook(
                lambda _module, _inputs, output: self._caught.append(output.clone())
            )
        else:
            self.layer = f"input of {linear[-1]}"
            self._network.get_submodule(linear[-1]).register_forward_pre_hook(
                lambda _module, inputs: self._caught.append(inputs[0])
            )

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> _Seen:
        """Look at images (n, c, h, w) uint8.

        Raises:
            NumericalError: features or logits are not finite.
        """
        features, logits = [], []
        for part in pixels.split(_BATCH):
            self._caught.clear()
            logits.append(self._network(self._preprocess.apply(part.to(self._device))).cpu())
            features.append(self._caught[-1].flatten(1).cpu())
        seen = _Seen(torch.cat(features), torch.cat(logits))
        if not (seen.features.isfinite().all() and seen.logits.isfinite().all()):
            raise NumericalError(
                "what the teacher makes of the images is not finite; take another teacher"
            )
        return seen

    @torch.no_grad()
    def _order(self, image: Tensor) -> tuple[list[str], list[str]]:
        """The names of the convolutions and of the linear layers, in the order of the pass."""
        called: dict[type[nn.Module], list[str]] = {nn.Conv2d: [], nn.Linear: []}
        hooks = [
            module.register_forward_hook(
                lambda _m, _i, _o, name=name, kind=kind: called[kind].append(name)
            )
            for name, module in self._network.named_modules()
            for kind in called
            if isinstance(module, kind)
        ]
        self._network(image)
        for hook in hooks:
            hook.remove()
        return called[nn.Conv2d], called[nn.Linear]


def _distances(eye: _Eye, images: dict[int, Tensor], classes: int) -> Distances:
    sums: list[float | None] = [None] * classes
    means: list[float | None] = [None] * classes
    for label, members in images.items():
        if len(members) > 1:
            total = pair_sum(eye(members).features)
            sums[label], means[label] = total, total / (len(members) * (len(members) - 1))
    known = [mean for mean in means if mean is not None]
    mean = math.fsum(known) / len(known) if known else None
    return Distances(mean=mean, classes=tuple(means), sums=tuple(sums))


def _chosen(dataset: DistilledDataset, shown: Sequence[int] | None) -> list[int]:
    """The classes on the map."""
    classes = range(len(dataset.class_names))
    chosen = list(classes[:_SHOWN_CLASSES] if shown is None else shown)
    if any(index not in classes for index in chosen) or len(set(chosen)) < len(chosen):
        raise DataError(
            f"cannot show classes {chosen}; name different ones from 0 to {classes[-1]}"
        )
    return chosen


def _pictures(dataset: DistilledDataset) -> dict[int, Tensor]:
    """The set's images of each class as 8-bit pixels."""
    return _by_class((dataset.pixels() * 255).round().to(torch.uint8), dataset.hard_labels())


def _shown_real(source: SourceDataset, seed: int) -> dict[int, Tensor]:
    """The real images on the map."""
    return _draw(source, _SHOWN_REAL, seed, "audits/diversity/shown")


def _embedding(
    eye: _Eye,
    distilled: Sequence[dict[int, Tensor]],
    real: dict[int, Tensor],
    chosen: Sequence[int],
    class_names: Sequence[str],
    seed: int,
    names: tuple[str, ...] = (),
) -> Embedding | None:
    """The map of one set, or of several that have ``names``."""
    logits: list[Tensor] = []
    classes: list[int] = []
    of: list[int] = []
    for number, images in (*enumerate(distilled), (-1, real)):
        for place, label in enumerate(chosen):
            if label in images:
                logits.append(eye(images[label]).logits)
                classes += [place] * len(images[label])
                of += [number] * len(images[label])
    if len(classes) < _FEWEST_POINTS:
        return None
    rows = torch.cat(logits).double().numpy()
    if not _apart(rows):
        return None
    perplexity = min(_PERPLEXITY, (len(classes) - 1) / 3)
    points = _tsne(rows, perplexity, seed)
    return Embedding(
        class_names=tuple(class_names[label] for label in chosen),
        x=tuple(round(float(x), 3) for x in points[:, 0]),
        y=tuple(round(float(y), 3) for y in points[:, 1]),
        classes=tuple(classes),
        real=tuple(number < 0 for number in of),
        perplexity=perplexity,
        **({"sets": names, "of": tuple(of)} if names else {}),
    )


def _apart(rows: NDArray[Any]) -> bool:
    """Whether t-SNE can tell rows (n, C) apart: of equal ones scikit-learn's ends the process."""
    spread = float(np.ptp(rows, axis=0).max())
    return 1e-9 < spread < 1e9 and spread > 1e-6 * float(np.abs(rows).max())


def _tsne(rows: NDArray[Any], perplexity: float, seed: int) -> NDArray[Any]:
    """Rows (n, C) to the plane, (n, 2)."""
    from sklearn.manifold import TSNE

    chart = TSNE(
        perplexity=perplexity,
        init="pca",
        random_state=rng.integer_seed(seed, "audits/diversity/tsne"),
    )
    # Sums over several threads come in any order, and the chart turns on the last bit.
    with threadpool_limits(1), warnings.catch_warnings():
        # Of features that are constant, say, which a chart survives.
        warnings.simplefilter("ignore")
        points: NDArray[Any] = np.asarray(chart.fit_transform(rows))
    return points


def _by_class(images: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """The images of each class that has some."""
    return {int(label): images[labels == label] for label in labels.unique()}


def _draw(source: SourceDataset, most: int, seed: int, purpose: str) -> dict[int, Tensor]:
    """``most`` training images of every class, or as many as the smallest class has."""
    smallest = int(torch.bincount(source.train.labels, minlength=source.classes).min())
    rows = sample_per_class(
        source.train, source.classes, min(most, smallest), rng.stream(seed, purpose)
    )
    return _by_class(source.train.images[rows], source.train.labels[rows])


def _check(dataset: DistilledDataset, teacher: Teacher, source: SourceDataset | None) -> None:
    channels, height, width = dataset.shape[1:]
    ours = (len(dataset.class_names), channels, height, width)
    seen = (teacher.classes, teacher.channels, teacher.resolution, teacher.resolution)
    if seen != ours:
        raise DataError(
            f"the teacher is for {_words(seen)} and the distilled set has {_words(ours)}; "
            "use a teacher that was trained on the same data"
        )
    if source is not None:
        real = (source.classes, source.channels, source.resolution, source.resolution)
        if real != ours:
            raise DataError(
                f"{source.name} has {_words(real)} and the distilled set {_words(ours)}; "
                "use the data that the set was distilled from"
            )


def _words(facts: tuple[int, int, int, int]) -> str:
    classes, channels, height, width = facts
    plural = "" if channels == 1 else "s"
    return f"{classes} classes of {height}x{width} with {channels} channel{plural}"
