"""What is particular to the tables of DWA (Du et al., NeurIPS 2024)."""

from __future__ import annotations

from potstill.papers.asking import Asked, Paper
from potstill.papers.rows import Row

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


PAPER = Paper(
    tables={"10": _class_by_class, "11": _seconds},
    networks={
        "convnet-128": {"name": "convnet", "growth": 1, "normalisation": "batch"},
        "deit_tiny": {"name": "deit_tiny", "normalisation": "layer"},
        **{name: {"name": name, "normalisation": "batch"} for name in _WITH_BATCH_NORMS},
    },
    # Tables 6 to 8.
    epochs={
        "dwa-paper": {"cifar10": 400, "cifar100": 400, "tiny_imagenet": 200, "imagenet1k": 300}
    },
)
