from __future__ import annotations

import pytest
import torch

from potstill import rng
from potstill.data import datasets, preprocess
from potstill.data.source import centred_one_hot, sample_per_class
from potstill.train import Schedule, Training, train
from tests.evaluation.problems import RECIPE, set_of, small_network, teacher_of


@pytest.fixture(scope="session")
def digits():
    return datasets.load(RECIPE, None)


@pytest.fixture(scope="session")
def standardise(digits):
    return preprocess.fit(RECIPE, digits.train.images)


@pytest.fixture(scope="session")
def teacher(digits, standardise):
    """Right about 9 of 10 digits."""
    network = small_network()
    images = standardise.apply(digits.train.images)
    # As far apart as a cross-entropy would drive the outputs.
    labels = 10 * centred_one_hot(digits.train.labels, 10)
    training = Training(150, Schedule(150, 1e-2, 10), batch_size=64)
    train([network], images, labels, training, seed=0)
    return teacher_of(network, digits, standardise, [{"accuracy": 0.9}])


@pytest.fixture(scope="session")
def real(digits, standardise):
    """Five real images per class, as 8-bit pixels, for 3 epochs."""
    rows = sample_per_class(digits.train, 10, 5, rng.stream(0, "test/real"))
    labels = centred_one_hot(digits.train.labels[rows], 10)
    return set_of(digits, standardise, digits.train.images[rows], labels, epochs=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
