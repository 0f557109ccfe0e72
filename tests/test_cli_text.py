"""What the commands say of results, to the word."""

from __future__ import annotations

from typing import Any

from potstill.cli import text


def score(*values: float) -> dict[str, Any]:
    return {"mean": sum(values) / len(values), "std": 0.01, "values": list(values)}


def result(*values: float, **more: Any) -> dict[str, Any]:
    network = {"name": "resnet18", "normalisation": "batch"}
    document = {"protocol": "dwa-paper", "network": network, "steps": 40}
    return {**document, "accuracy": score(*values), **more}


def test_the_epochs_are_said_where_there_are_any():
    assert text.table([result(0.5, 0.7, epochs=40)]) == (
        "protocol dwa-paper, 40 epochs\nresnet18, batch  60.00 ± 1.00 %"
    )
    assert text.table([result(0.5, 0.7)]).startswith("protocol dwa-paper\n")
    assert text.summary(result(0.5, 0.7, epochs=1)) == (
        "accuracy 60.00 ± 1.00 % (2 networks, protocol dwa-paper, 1 epoch, 40 steps)"
    )
