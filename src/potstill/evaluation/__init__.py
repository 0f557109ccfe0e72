"""Scores of distilled sets: named protocols, fresh networks, the real test set."""

from potstill.evaluation.protocol import PROTOCOLS, Protocol, evaluate

__all__ = ["PROTOCOLS", "Protocol", "evaluate"]
