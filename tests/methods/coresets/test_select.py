from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from potstill import rng
from potstill.errors import DataError
from potstill.methods.coresets.select import herding, k_center, k_means, random

LINE = np.array([[0.0], [1.0], [2.0], [10.0]])


def cloud(n: int = 60, d: int = 5, seed: int = 0) -> np.ndarray:
    return rng.stream(seed, "test/cloud").normal(size=(n, d))


def test_four_points_on_a_line():
    assert LINE[herding(LINE, 4)].flatten().tolist() == [2, 1, 10, 0]
    assert LINE[k_center(LINE, 4)].flatten().tolist() == [2, 10, 0, 1]
    assert sorted(LINE[k_means(LINE, 2, seed=0)].flatten()) == [1, 10]


def slow_herding(features: np.ndarray, count: int) -> list[int]:
    """As it is written down: the nearest of those left to i mu - sum of the chosen."""
    chosen: list[int] = []
    for number in range(1, count + 1):
        wanted = number * features.mean(0) - features[chosen].sum(0)
        left = [row for row in range(len(features)) if row not in chosen]
        chosen.append(min(left, key=lambda row: np.linalg.norm(features[row] - wanted)))
    return chosen


def slow_k_center(features: np.ndarray, count: int) -> list[int]:
    """As it is written down: the nearest to the mean, then the farthest from the chosen."""
    rows = range(len(features))
    chosen = [min(rows, key=lambda row: np.linalg.norm(features[row] - features.mean(0)))]
    while len(chosen) < count:
        left = [row for row in rows if row not in chosen]
        chosen.append(
            max(
                left, key=lambda row: np.linalg.norm(features[row] - features[chosen], axis=1).min()
            )
        )
    return chosen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fast", "slow"), [(herding, slow_herding), (k_center, slow_k_center)])
def test_the_fast_way_is_the_slow_one(fast: Callable, slow: Callable, seed: int):
    features = cloud(seed=seed)
    assert fast(features, 20).tolist() == slow(features, 20)


@pytest.mark.parametrize("choose", [herding, k_center])
def test_a_small_choice_is_the_beginning_of_a_large_one(choose: Callable):
    whole = choose(cloud(), 60).tolist()
    assert sorted(whole) == list(range(60))
    for count in (1, 7, 30):
        assert choose(cloud(), count).tolist() == whole[:count]


def test_random_rows_are_nested_too():
    stream = lambda: rng.stream(3, "test/random")  # noqa: E731
    whole = random(60, 60, stream()).tolist()
    assert sorted(whole) == list(range(60)) and whole != list(range(60))
    assert random(60, 7, stream()).tolist() == whole[:7]


def test_one_image_is_the_same_by_herding_and_by_k_center():
    for seed in range(5):
        assert herding(cloud(seed=seed), 1).tolist() == k_center(cloud(seed=seed), 1).tolist()


def test_the_mean_of_a_herd_is_near_that_of_all():
    features = cloud(400)
    apart = np.linalg.norm(features[herding(features, 20)].mean(0) - features.mean(0))
    other = np.linalg.norm(features[:20].mean(0) - features.mean(0))
    assert apart < other / 3


def test_copies_are_chosen_after_everything_else():
    features = np.repeat(cloud(4), 3, axis=0)
    rows = k_center(features, 12)
    assert len({*rows.tolist()}) == 12 and len({row // 3 for row in rows[:4].tolist()}) == 4
    assert len({*herding(features, 12).tolist()}) == 12


def test_k_means_takes_an_image_of_every_cluster():
    centres = 20 * np.eye(4)
    features = (centres[:, None] + 0.1 * cloud(40, 4).reshape(4, 10, 4)).reshape(40, 4)
    rows = k_means(features, 4, seed=1)
    assert sorted(row // 10 for row in rows.tolist()) == [0, 1, 2, 3]
    for row in rows.tolist():
        block = features[row // 10 * 10 :][:10]
        distances = np.linalg.norm(block - block.mean(0), axis=1)
        assert distances.argmin() == row % 10
    assert k_means(features, 4, seed=1).tolist() == rows.tolist()


def test_k_means_takes_no_image_twice():
    features = np.array([[0.0], [0.1], [10.0]])
    assert sorted(k_means(features, 3, seed=0).tolist()) == [0, 1, 2]


def test_more_clusters_than_different_images_are_refused():
    with pytest.raises(DataError, match="no 3 clusters among 2 different images; ask for fewer"):
        k_means(np.repeat(cloud(2), 5, axis=0), 3, seed=0)
