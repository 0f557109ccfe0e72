"""Which images of a class stand for it, as pure functions of their features.

Features are (N, d) float64; what comes back are rows, (k,) int64, in the order of choice.
Herding and k-center are nested: the first rows of a large choice are the small one. So are random
rows here; k-means is not. Of rows that are equally good the first one is taken.

As DC's author described the baselines of DC, DSA, DM and CAFE. Distances are Euclidean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from potstill.errors import DataError

Array = NDArray[np.floating]
Rows = NDArray[np.int64]

_RESTARTS, _MOST_STEPS = 10, 1000


def random(number: int, count: int, generator: np.random.Generator) -> Rows:
    """``count`` of the rows 0 .. ``number`` - 1, without replacement."""
    return generator.permutation(number)[:count]


def herding(features: Array, count: int) -> Rows:
    """Rows whose mean follows the mean of all.

    The i-th is the one, of those left, that is nearest to i mu minus the sum of those chosen.
    A library in wide use takes the farthest instead, which is another choice.
    """
    mean, total, distance = features.mean(0), np.zeros_like(features[0]), _Distances(features)
    left, chosen = np.ones(len(features), dtype=bool), []
    for number in range(1, count + 1):
        row = int(np.where(left, distance(number * mean - total), np.inf).argmin())
        left[row] = False
        total += features[row]
        chosen.append(row)
    return np.array(chosen)


def k_center(features: Array, count: int) -> Rows:
    """Rows that leave nothing far away: greedy k-center.

    The first is the one nearest to the mean, every other one the farthest from those chosen.
    """
    distance = _Distances(features)
    chosen = [int(distance(features.mean(0)).argmin())]
    nearest = distance(features[chosen[0]])
    while len(chosen) < count:
        nearest[chosen] = -np.inf  # never again, be there copies of it
        chosen.append(int(nearest.argmax()))
        np.minimum(nearest, distance(features[chosen[-1]]), out=nearest)
    return np.array(chosen)


def k_means(features: Array, count: int, seed: int) -> Rows:
    """For each centroid of ``count`` clusters the nearest row that is not taken yet.

    k-means++, 10 restarts, Lloyd's steps to convergence.

    Raises:
        DataError: more clusters than there are different rows.
    """
    different = len({row.tobytes() for row in features})
    if different < count:
        raise DataError(
            f"k-means has no {count} clusters among {different} different images; ask for fewer "
            "images per class, or take another algorithm"
        )
    clusters = KMeans(count, n_init=_RESTARTS, max_iter=_MOST_STEPS, tol=0.0, random_state=seed)
    with threadpool_limits(1):  # several threads add up in any order
        centroids = clusters.fit(features.astype(np.float32)).cluster_centers_
    left, chosen, distance = np.ones(len(features), dtype=bool), [], _Distances(features)
    for centroid in centroids:
        row = int(np.where(left, distance(centroid), np.inf).argmin())
        left[row] = False
        chosen.append(row)
    return np.array(chosen)


class _Distances:
    """Squared distances (N,) of the features (N, d) to a point (d,), by one product."""

    def __init__(self, features: Array) -> None:
        self._features, self._squares = features, np.square(features).sum(1)

    def __call__(self, point: Array) -> Array:
        distances: Array = self._squares - 2 * (self._features @ point) + point @ point
        return distances
