"""Training of networks: for a number of steps, or by epochs, in one loop (:class:`Trainer`)."""

from potstill.train.epochs import EpochTraining, Loss, Optimisation, batches
from potstill.train.layout import favour_layout, images_at_once, in_favoured_layout
from potstill.train.steps import (
    Augment,
    Schedule,
    Training,
    batching_pays,
    half_squared_error,
    train,
)
from potstill.train.trainer import Trainer

__all__ = [
    "Augment",
    "EpochTraining",
    "Loss",
    "Optimisation",
    "Schedule",
    "Trainer",
    "Training",
    "batches",
    "batching_pays",
    "favour_layout",
    "half_squared_error",
    "images_at_once",
    "in_favoured_layout",
    "train",
]
