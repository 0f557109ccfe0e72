"""Scores of distilled sets: named protocols, fresh networks, the real test set."""

from potstill.evaluation.fixed_steps import Protocol
from potstill.evaluation.matching import MatchingProtocol
from potstill.evaluation.protocol import PROTOCOLS, evaluate
from potstill.evaluation.relabel import labelled_views, relabel
from potstill.evaluation.students import StudentProtocol

__all__ = [
    "PROTOCOLS",
    "MatchingProtocol",
    "Protocol",
    "StudentProtocol",
    "evaluate",
    "labelled_views",
    "relabel",
]
