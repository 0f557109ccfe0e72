"""Scores of distilled sets: named protocols, fresh networks, the real test set."""

from potstill.evaluation.fixed_steps import Protocol
from potstill.evaluation.matching import MatchingProtocol
from potstill.evaluation.plan import Assignment, EvaluationProtocol, Plan, Work
from potstill.evaluation.protocol import PROTOCOLS, evaluate, register
from potstill.evaluation.relabel import labelled_views, relabel
from potstill.evaluation.students import StudentProtocol

__all__ = [
    "PROTOCOLS",
    "Assignment",
    "EvaluationProtocol",
    "MatchingProtocol",
    "Plan",
    "Protocol",
    "StudentProtocol",
    "Work",
    "evaluate",
    "labelled_views",
    "register",
    "relabel",
]
