"""What is particular to the tables of DWA (Du et al., NeurIPS 2024)."""

from __future__ import annotations

from potstill.papers.asking import Asked, Paper
from potstill.papers.rows import ACCURACY, Row

_WITH_BATCH_NORMS = (
    "resnet18",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "shufflenet_v2",
    "efficientnet_b0",
    "vgg16",
)


def _class_by_class(row: Row) -> Asked:
    """Table 10: the sets of Table 1 for CIFAR-100 from a ResNet-18, of 20 images per class."""
    changes = {"table": "1", "images_per_class": 10, "eval_arch": row.distill_arch}
    size = f"images_per_class={row.images_per_class}"
    _, classes, _ = row.remark.split()
    return Asked((row.model_copy(update=changes),), "continual", (size,), classes=int(classes))


def _seconds(row: Row) -> Asked:
    """Table 11: the time to make one image of every class."""
    return Asked((row,), "synthesis")


# As torchvision has them, with their dropout and stochastic depth, and ShuffleNetV2 at half its
# width: what the authors' script for ImageNet-1K trains.
_ON_IMAGENET = {
    "mobilenet_v2": {"name": "torchvision:mobilenet_v2"},
    "shufflenet_v2": {"name": "torchvision:shufflenet_v2_x0_5"},
    "efficientnet_b0": {"name": "torchvision:efficientnet_b0"},
}

_TENTH = "best of every 10th epoch and the last on the test set"
_TAKEN = {
    "cifar10": _TENTH,
    "cifar100": _TENTH,
    "tiny_imagenet": "best of all epochs on the test set",
    "imagenet1k": _TENTH,
}


def _published(row: Row) -> str:
    """As the authors' scripts take it; of numbers that are quoted, what is known."""
    if row.metric != ACCURACY:
        return ""
    labelled = f"labeller in {'training' if row.dataset.startswith('cifar') else 'evaluation'} mode"
    if row.method.startswith("DWA"):
        return f"{_TAKEN[row.dataset]}, {labelled}"
    if row.method == "SRe2L" and row.dataset.startswith("cifar"):
        return f"{labelled}, which epoch is not known"
    if (row.method, row.dataset, row.eval_arch) == ("SRe2L", "tiny_imagenet", "resnet18"):
        return f"last of 100 epochs without mixing, {labelled}"
    return ""


PAPER = Paper(
    tables={"10": _class_by_class, "11": _seconds},
    networks={
        "convnet-128": {"name": "convnet", "growth": 1, "normalisation": "batch"},
        "deit_tiny": {"name": "deit_tiny", "normalisation": "layer"},
        **{name: {"name": name, "normalisation": "batch"} for name in _WITH_BATCH_NORMS},
    },
    networks_on={"imagenet1k": _ON_IMAGENET},
    published=_published,
    # Tables 6 to 8.
    epochs={
        "dwa-paper": {"cifar10": 400, "cifar100": 400, "tiny_imagenet": 200, "imagenet1k": 300}
    },
)
