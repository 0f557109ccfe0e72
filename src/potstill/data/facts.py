"""The published data sets, one record of facts for each.

Readers take folder, side and classes from here, estimates the sizes, pages the title, and recipes
of methods that use the field's constants mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Reader = Literal["embedded", "torchvision", "image folder"]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A published data set.

    Attributes:
        title: the name that papers use.
        classes: number of classes.
        channels: 1 for grayscale, 3 for RGB.
        resolution: side in pixels at which the papers use it.
        training: number of training images.
        test: number of test images (for ImageNet's relatives and Tiny-ImageNet, of the published
            validation split).
        reader: ``embedded`` in an installed library, read by ``torchvision``, or an
            ``image folder``, which is resized to ``resolution``.
        folder: where it lies under the data root; empty if it is embedded.
        mean: mean of each channel, pixels in [0, 1], as the field's code states it; None where it
            states none.
        std: standard deviation of each channel, as ``mean``. CIFAR-10's is the mean of the single
            images' deviations, not that over all pixels (.2470 .2435 .2616).
    """

    title: str
    classes: int
    channels: Literal[1, 3]
    resolution: int
    training: int
    test: int
    reader: Reader
    folder: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "digits": DatasetInfo(
            title="Digits",
            classes=10,
            channels=1,
            resolution=8,
            training=1_442,
            test=355,
            reader="embedded",
            folder="",
        ),
        "mnist": DatasetInfo(
            title="MNIST",
            classes=10,
            channels=1,
            resolution=28,
            training=60_000,
            test=10_000,
            reader="torchvision",
            folder="MNIST",
            mean=(0.1307,),
            std=(0.3081,),
        ),
        "fashion_mnist": DatasetInfo(
            title="Fashion-MNIST",
            classes=10,
            channels=1,
            resolution=28,
            training=60_000,
            test=10_000,
            reader="torchvision",
            folder="FashionMNIST",
            mean=(0.2861,),
            std=(0.3530,),
        ),
        "cifar10": DatasetInfo(
            title="CIFAR-10",
            classes=10,
            channels=3,
            resolution=32,
            training=50_000,
            test=10_000,
            reader="torchvision",
            folder="cifar-10-batches-py",
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        "cifar100": DatasetInfo(
            title="CIFAR-100",
            classes=100,
            channels=3,
            resolution=32,
            training=50_000,
            test=10_000,
            reader="torchvision",
            folder="cifar-100-python",
            mean=(0.5071, 0.4866, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
        ),
        "tiny_imagenet": DatasetInfo(
            title="Tiny-ImageNet",
            classes=200,
            channels=3,
            resolution=64,
            training=100_000,
            test=10_000,
            reader="image folder",
            folder="tiny_imagenet",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        "cub200": DatasetInfo(
            title="CUB-200",
            classes=200,
            channels=3,
            resolution=32,
            training=5_994,
            test=5_794,
            reader="image folder",
            folder="cub200",
        ),
        "imagenette": DatasetInfo(
            title="ImageNette",
            classes=10,
            channels=3,
            resolution=128,
            training=9_469,
            test=3_925,
            reader="image folder",
            folder="imagenette",
        ),
        "imagewoof": DatasetInfo(
            title="ImageWoof",
            classes=10,
            channels=3,
            resolution=128,
            training=9_025,
            test=3_929,
            reader="image folder",
            folder="imagewoof",
        ),
        "imagenet64": DatasetInfo(
            title="ImageNet at 64 px",
            classes=1000,
            channels=3,
            resolution=64,
            training=1_281_167,
            test=50_000,
            reader="image folder",
            folder="imagenet64",
        ),
        "imagenet1k": DatasetInfo(
            title="ImageNet-1K",
            classes=1000,
            channels=3,
            resolution=224,
            training=1_281_167,
            test=50_000,
            reader="image folder",
            folder="imagenet1k",
        ),
    }
)
