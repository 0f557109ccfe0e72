"""Audits as the commands leave them in a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.report import synthetic

ATTACKS = ("threshold", "lr", "mlp", "rf", "knn")
OF_SET = {"dataset": "digits", "images": 10, "images_per_class": 1}
TRAINING = {
    "optimiser": "adam",
    "learning_rate": 3e-4,
    "batch_size": 256,
    "augmented": True,
    "steps": 16_000,
}
NETWORK = {"name": "convnet", "depth": 2, "width": 16, "growth": 2, "normalisation": "none"}


def summary(*values: float) -> dict[str, Any]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def targets(images: int, leak: float, attacks: tuple[str, ...] = ATTACKS) -> dict[str, Any]:
    """Target models that betray their members as ``leak`` says: 0 nothing, 1 nearly all."""
    fpr = [step / 20 for step in range(21)]
    curve = [
        {
            "steps": steps,
            "accuracy": summary(0.6 + 0.1 * share, 0.62 + 0.1 * share),
            "member_accuracy": summary(0.7, 0.72),
            "auc": {
                name: summary(0.5 + 0.49 * leak * share, 0.51 + 0.48 * leak * share)
                for name in attacks
            },
        }
        for steps, share in ((100, 0.2), (1000, 0.6), (16000, 1.0))
    ]
    tpr = {name: [rate ** (1 - 0.95 * leak) for rate in fpr] for name in attacks}
    return {"images": images, "curve": curve, "roc": {"fpr": fpr, "tpr": tpr}}


def membership(baselines: bool = True, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": "membership",
        **OF_SET,
        "artefact_digest": synthetic.OWN,
        "network": NETWORK,
        "training": TRAINING,
        "attacks": list(ATTACKS),
        "members": 10_000,
        "others": 10_000,
        "networks": 5,
        "folds": 5,
        "untrained": {"auc": {name: summary(0.5, 0.501) for name in ATTACKS}},
        "distilled": targets(500, 0.05),
        "seconds": 12.0,
    }
    if baselines:
        document["baselines"] = {"members": targets(10_000, 1.0), "random": targets(500, 0.1)}
    return document | changes


def scores(**changes: Any) -> dict[str, Any]:
    def over(distilled: float, random: float) -> dict[str, Any]:
        parts = {"distilled": summary(distilled), "random": summary(random) | {"kept": True}}
        return {"value": distilled - random, **parts}

    how = {"protocol": "hard-label", "epochs": 40, "steps": 1000}
    document = {
        "kind": "scores",
        **OF_SET,
        "artefact_digest": synthetic.OWN,
        "network": NETWORK,
        "networks": 2,
        "protocol": "rcig-paper",
        "teacher": None,
        "hlr": {
            "value": 0.30,
            "real": summary(0.97, 0.99) | how | {"budget_steps": 5000, "kept": 0},
            "distilled": summary(0.67, 0.69) | how,
        },
        "ior": over(0.65, 0.60),
        "lrs": {"value": 0.219, "improvement": -0.125},
        "ars": {
            "value": 0.29,
            "improvement": 0.04,
            "augmented": {"protocol": "rcig-paper-augmented", **over(0.63, 0.60)},
            "plain": {"protocol": "rcig-paper", **over(0.65, 0.60)},
        },
        "seconds": 3.0,
    }
    return document | changes


def continual(classes: int = 10, tasks: int = 5, **changes: Any) -> dict[str, Any]:
    rows = [
        {
            "classes": list(range(classes // tasks)),
            "classes_so_far": classes * (task + 1) // tasks,
            "images": 10 * (task + 1),
            "tested": 40 * (task + 1),
            "steps": 1000,
            "accuracy": summary(0.9 - 0.1 * task, 0.92 - 0.1 * task),
            "baseline": summary(0.7 - 0.1 * task, 0.72 - 0.1 * task),
        }
        for task in range(tasks)
    ]
    document = {
        "kind": "continual",
        **OF_SET,
        "artefact_digest": synthetic.OWN,
        "protocol": "rcig-paper",
        "network": NETWORK,
        "networks": 2,
        "order": "random",
        "tasks": rows,
        "average_accuracy": 0.71,
        "seconds": 9.0,
    }
    return document | changes


def audited_run(folder: Path, *audits: dict[str, Any], **changes: Any) -> Path:
    """A whole run on the digits, its set so audited, and evaluated on two other networks too."""
    of = synthetic.recipe(**changes)
    first = synthetic.result(of, [0.81, 0.83], [0.55, 0.61])
    others = [
        synthetic.result(of, [0.7, 0.72], [0.5, 0.52])
        | {"network": {"name": name, "normalisation": norm}, "protocol": "rcig-paper-augmented"}
        for name, norm in (("resnet18", "none"), ("alexnet", "none"))
    ]
    images, labels = synthetic.digits()
    results = [first, *others]
    document = synthetic.record("finished", of.method.iterations, results)
    document["audits"] = [{**audit, "artefact_digest": synthetic.OWN} for audit in audits]
    return synthetic.write_run(
        folder,
        of,
        lines=synthetic.metrics(of.method.iterations),
        record=document,
        dataset=synthetic.distilled(of, images, labels, synthetic.DIGITS, results),
    )
