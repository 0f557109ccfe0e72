"""Membership audits of several distilled sets, put together to one.

RCIG's Tables 5 and 6 give mean and deviation over 25 networks: 5 on each of 5 sets, every set
distilled from a part of the training images that shares none with the others (Appendix C;
``data.train_chunk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from potstill.errors import RecipeError
from potstill.results import Accuracy, Areas, Attacked, Membership, Roc, Targets

_ALIKE = ("dataset", "images", "images_per_class", "network", "training", "attacks", "folds")


def together(audits: Sequence[Membership]) -> Membership:
    """One audit with the networks of all: every area and accuracy has one value for each.

    It is of no one set, so that it names no digest. Members and others are counted together, and
    ``networks`` stays the number on each set. One audit is itself.

    Args:
        audits: of at least one set, made with the same options.

    Raises:
        RecipeError: sets or options differ, so that the values are not of one kind.
    """
    first, *others = audits
    if not others:
        return first
    for other in others:
        for name in _ALIKE:
            if getattr(other, name) != getattr(first, name):
                raise RecipeError(
                    f"audits of sets that differ in {name.replace('_', ' ')} are not one; "
                    "attack those sets in commands of their own"
                )
    found = {
        name: _targets([audit.baselines[name] for audit in audits]) for name in first.baselines
    }
    untrained = [audit.untrained for audit in audits if audit.untrained is not None]
    warnings = tuple(dict.fromkeys(text for audit in audits for text in audit.warnings))
    sources = {audit.source_fingerprint for audit in audits}
    if len(sources) < len(audits):
        warnings += (
            f"{len(audits)} sets were distilled from the training images of {len(sources)}: "
            "they are not independent; distil each from images of its own (data.train_chunk)",
        )
    return Membership.model_validate(
        {
            **first.given(),
            "artefact_digest": None,
            "source_fingerprint": None,
            "sets": len(audits),
            "members": sum(audit.members for audit in audits),
            "others": sum(audit.others for audit in audits),
            "untrained": _areas(untrained) if len(untrained) == len(audits) else None,
            "distilled": _targets([audit.distilled for audit in audits]),
            "baselines": found,
            "warnings": warnings,
            "seconds": sum(audit.seconds or 0.0 for audit in audits),
        }
    )


def _targets(several: Sequence[Targets]) -> Targets:
    first = several[0]
    moments = zip(*(of.curve for of in several), strict=True)
    return Targets(
        images=first.images,
        curve=tuple(map(_moment, moments)),
        roc=Roc(
            fpr=first.roc.fpr,
            tpr={
                name: tuple(map(fmean, zip(*(of.roc.tpr[name] for of in several), strict=True)))
                for name in first.roc.tpr
            },
        ),
    )


def _moment(several: Sequence[Attacked]) -> Attacked:
    members = [of.member_accuracy for of in several if of.member_accuracy is not None]
    return Attacked(
        steps=several[0].steps,
        accuracy=_joined([of.accuracy for of in several]),
        member_accuracy=_joined(members) if len(members) == len(several) else None,
        auc=_areas(several).auc,
    )


def _areas(several: Sequence[Areas | Attacked]) -> Areas:
    return Areas(auc={name: _joined([of.auc[name] for of in several]) for name in several[0].auc})


def _joined(several: Sequence[Accuracy]) -> Accuracy:
    return Accuracy.of([value for of in several for value in of.values])
