"""What is particular to the tables of RCIG (Loo et al., ICML 2023)."""

from __future__ import annotations

from typing import Any

from potstill.papers.asking import Asked, Paper, Quantity, TrainedOn
from potstill.papers.rows import Row

METHOD = "RCIG"

TRANSFER = "rcig-transfer-augmented"
"""The protocol of Table 3 for other networks: augmented, with Adam's rate 3e-4."""

_RUN_NUMBERS: dict[str, Quantity] = {
    "training_iterations": "iterations",
    "seconds_per_iteration_rtx_a6000": "step",
    "total_hours_rtx_a6000": "hours",
}
_PROTOCOLS = {
    "accuracy_pct_no_augmentation": "rcig-paper",
    "accuracy_pct_with_augmentation": "rcig-paper-augmented",
}
_BASELINES: dict[str, TrainedOn] = {"Real": "members", "Subset": "random"}


def _transfer(row: Row) -> Asked:
    """Table 3: other networks; RCIG's set also distilled with batch norms, which names no row."""
    if row.method != METHOD:
        return Asked((row,))
    protocol = TRANSFER if (row.eval_arch or "") in _NETWORKS.keys() - {"Conv-NN"} else None
    if row.distill_arch == "Conv-BN":
        plain = row.model_copy(update={"distill_arch": "Conv-NN"})
        return Asked((plain,), "accuracy", ("network.normalisation=batch",), protocol)
    return Asked((row,), protocol=protocol)


def _attack(row: Row) -> Asked:
    """Tables 5 and 6: attacks on networks that saw the set, or real images beside RCIG's."""
    trained_on = _BASELINES.get(row.method, "distilled")
    of = row if trained_on == "distilled" else row.model_copy(update={"method": METHOD})
    attack = row.metric.removeprefix("attack_auc_").removesuffix("_pct")
    return Asked((of,), "membership", attack=attack, trained_on=trained_on)


def _of_the_main_sets(row: Row) -> Asked:
    """Tables 7 and 8: cost, and both evaluations, of the sets of Tables 2 and 4."""
    sets = tuple(row.model_copy(update={"table": table}) for table in ("2", "4"))
    if row.metric in _RUN_NUMBERS:
        return Asked(sets, _RUN_NUMBERS[row.metric])
    return Asked(sets, protocol=_PROTOCOLS[row.metric])


def _subsampled(row: Row) -> Asked:
    """Figure 5: the set of Table 2 with other numbers of images in a backward pass."""
    method, size = row.method.split(" n_subset=")
    of = row.model_copy(update={"table": "2", "method": method})
    quantity: Quantity = "memory" if row.metric == "memory_gb" else "accuracy"
    return Asked((of,), quantity, (f"method.subset={size}",))


_NETWORKS: dict[str, dict[str, Any]] = {
    "Conv-NN": {"normalisation": "none"},
    "ResNet-DN": {"name": "resnet18_rcig", "normalisation": "none"},
    "ResNet-BN": {"name": "resnet18_rcig", "normalisation": "batch"},
    "VGG-BN": {"name": "vgg11_rcig", "normalisation": "batch"},
    "AlexNet": {"name": "alexnet_rcig", "normalisation": "none"},
}
"""Table 3's, as they were run: other networks than those of these names (``networks.bodies``)."""

PAPER = Paper(
    tables={
        "3": _transfer,
        "5": _attack,
        "6": _attack,
        "7": _of_the_main_sets,
        "8": _of_the_main_sets,
        "fig5": _subsampled,
    },
    networks=_NETWORKS,
)
