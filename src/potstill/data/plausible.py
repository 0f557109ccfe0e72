"""Whether images and labels can be what somebody says they are.

A statement that cannot be true is refused (DataError); one that is odd is a warning. What was
looked at, what was found and the verdict are kept as :class:`Check`.

The thresholds were set on MNIST, Fashion-MNIST, digits and CIFAR-10 distilled by both methods.
Undone rightly, at most 4.4 % of the numbers lay further than 0.25 outside [0, 1] (of most sets
fewer than 2.5 %, and of whitened images said to be standardised more); a channel's mean was at most
0.3 of the real deviation from the real one; the 1st and 99th percentiles lay at most 0.02 inside
the real ones and at most 0.38 outside. Undone by the statistics of another data set, or by 0.5 and
0.5, one of these was otherwise: an end lay 0.14 or more inside the real one, or 0.5 outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from potstill.data.source import SourceDataset
from potstill.errors import DataError

Verdict = Literal["ok", "warning"]
LabelKind = Literal["hard", "probabilities", "logits", "centred"]

# How far outside [0, 1] a learned pixel may lie without a word, and which share may lie beyond.
_MARGIN = 0.25
_ODD_SHARE, _IMPOSSIBLE_SHARE = 0.025, 0.20
# Distilled beside real: deviation of the pixels as a ratio; mean, in real deviations, and
# correlation as differences.
_CONTRAST, _BRIGHTNESS, _CORRELATION = 2.0, 0.5, 0.3
# How far the dark and the bright end may lie inside and outside the real ones. Learned pixels leave
# the real range and fill it.
_ENDS = (0.01, 0.99)
_INSIDE, _OUTSIDE = 0.1, 0.4
_SOME = 2000
# No learned pixel reaches this where white is 1, and where white is 255 some pixels do.
_BRIGHT = 32
# Rows of probabilities that were saved in half precision sum to 1 this well.
_ROUNDING = 5e-3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in the images or labels, and what was found."""

    check: str
    value: str
    verdict: Verdict

    def document(self) -> dict[str, str]:
        """The check as a JSON object."""
        return asdict(self)


def finite(images: Tensor, labels: Tensor) -> Check:
    """Refuse NaN and infinity.

    Raises:
        DataError: there are some.
    """
    for name, tensor in (("images", images), ("labels", labels)):
        wrong = int((~tensor.isfinite()).sum())
        if wrong:
            raise DataError(
                f"{wrong} of {tensor.numel()} numbers of the {name} are not finite; save a "
                "checkpoint from before the training diverged"
            )
    return Check("finite numbers", "all", "ok")


def pixel_scale(images: Tensor) -> tuple[float, Check]:
    """What white is in images (n, c, h, w) that are said to be pixels: 1.0 or 255.0.

    Raises:
        DataError: the numbers fit neither.
    """
    low, high = float(images.min()), float(images.max())
    if images.dtype == torch.uint8:
        if high <= 1:
            raise DataError(
                f"the images are 8-bit pixels and none is above {high:.0f}; save them from 0 to "
                "255, or as floating-point numbers from 0 to 1"
            )
        return 255.0, Check("range of pixels", f"{low:.0f} to {high:.0f}, white is 255", "ok")
    scale = 255.0 if high >= _BRIGHT else 1.0
    if _share_outside(images / scale) > _IMPOSSIBLE_SHARE:
        raise DataError(
            f"the images are said to be pixels and lie between {low:.3g} and {high:.3g}, which is "
            "neither 0 to 1 nor 0 to 255; state --space standardised or --space zca"
        )
    value = f"{low:.3g} to {high:.3g}, white is {scale:.0f}"
    return scale, Check("range of pixels", value, "ok")


def both_signs(images: Tensor, space: str) -> Check:
    """Refuse pixels that are said to be preprocessed: preprocessed images surround 0.

    Raises:
        DataError: no number is below 0.
    """
    low, high = float(images.min()), float(images.max())
    if images.dtype == torch.uint8 or low >= 0:
        raise DataError(
            f"the images are said to be {space} and lie between {low:.3g} and {high:.3g}, none "
            "below 0; state --space pixels"
        )
    return Check("range of numbers", f"{low:.3g} to {high:.3g}", "ok")


def undone(pixels: Tensor) -> Check:
    """Preprocessing undone: (n, c, h, w) must land near [0, 1].

    Raises:
        DataError: they do not.
    """
    share = _share_outside(pixels)
    found = f"{float(pixels.min()):.2f} to {float(pixels.max()):.2f}"
    if share > _IMPOSSIBLE_SHARE:
        raise DataError(
            f"undoing the stated preprocessing gives pixels from {found}, {share:.0%} of them "
            f"more than {_MARGIN} outside 0 to 1; state the --space, --mean, --std or --fit-on "
            "that the images were made with"
        )
    value = f"{found}, {share:.1%} beyond {_MARGIN} outside"
    return Check("pixels once undone", value, "warning" if share > _ODD_SHARE else "ok")


def like_real(pixels: Tensor, source: SourceDataset) -> list[Check]:
    """Brightness, range, contrast and smoothness of pixels (n, c, h, w) beside real images'."""
    some = _some(source.train.images).float() / 255
    return [
        _brightness(pixels, some),
        _ends(pixels, some),
        _contrast(pixels, some),
        _smoothness(pixels, some),
    ]


def _brightness(pixels: Tensor, real: Tensor) -> Check:
    ours, theirs = pixels.mean((0, 2, 3)), real.mean((0, 2, 3))
    deviation = real.std((0, 2, 3), correction=0)
    return Check(
        "brightness beside real images",
        f"{_by_channel(ours)}, real {_by_channel(theirs)}",
        _odd(bool(((ours - theirs).abs() > _BRIGHTNESS * deviation).any())),
    )


def _ends(pixels: Tensor, real: Tensor) -> Check:
    """The 1st and 99th percentile: statistics of other data move them inwards, or far out."""
    (dark, bright), (real_dark, real_bright) = _percentiles(pixels), _percentiles(real)
    outside = torch.stack([real_dark - dark, bright - real_bright])
    return Check(
        "range beside real images",
        f"{_by_channel(dark)} to {_by_channel(bright)}, real {_by_channel(real_dark)} to "
        f"{_by_channel(real_bright)}",
        _odd(bool(((outside > _OUTSIDE) | (outside < -_INSIDE)).any())),
    )


def _contrast(pixels: Tensor, real: Tensor) -> Check:
    ours, theirs = (float(images.std(correction=0)) for images in (pixels, real))
    return Check(
        "contrast beside real images",
        f"{ours:.2f}, real {theirs:.2f}",
        _odd(not 1 / _CONTRAST <= ours / max(theirs, 1e-6) <= _CONTRAST),
    )


def _smoothness(pixels: Tensor, real: Tensor) -> Check:
    ours, theirs = _correlation(pixels), _correlation(real)
    return Check(
        "correlation of neighbours beside real images",
        f"{ours:.2f}, real {theirs:.2f}",
        _odd(abs(ours - theirs) > _CORRELATION),
    )


def label_kind(labels: Tensor, classes: int, stated: LabelKind | None) -> tuple[LabelKind, Check]:
    """What labels (n,) or (n, C) are.

    Raises:
        DataError: they cannot be what was stated, do not go with so many classes, or need a
            statement.
    """
    if labels.ndim == 1:
        low, high = int(labels.min()), int(labels.max())
        if stated not in (None, "hard"):
            raise DataError(
                f"labels are said to be {stated} and are one class an image; state "
                "--label-kind hard"
            )
        if low < 0 or high >= classes:
            raise DataError(
                f"the labels run from {low} to {high} and there are {classes} classes; count "
                "classes from 0, or name the right data set or class names"
            )
        return "hard", Check("labels", f"one class an image, {low} to {high}", "ok")
    if labels.shape[1] != classes:
        raise DataError(
            f"the labels have {labels.shape[1]} columns and there are {classes} classes; name "
            "the right data set or class names"
        )
    rows, one_hot = _are_probabilities(labels), is_one_hot(labels)
    if stated is None and not rows:
        raise DataError(
            "the rows of the labels are no probabilities; state --label-kind logits (before a "
            "softmax) or centred (regression targets: one-hot minus 1/classes, or learned)"
        )
    kind = stated or "probabilities"
    if kind == "hard" and not one_hot:
        raise DataError(
            f"labels are said to be hard and are {'probabilities' if rows else 'other numbers'}; "
            f"state --label-kind {'probabilities' if rows else 'logits or centred'}"
        )
    if kind != "hard" and (kind == "probabilities") != rows:
        raise DataError(
            f"labels are said to be {kind} and are {'' if rows else 'no '}probabilities; state "
            f"--label-kind {'probabilities' if rows else 'logits or centred'}"
        )
    if kind == "logits" and _look_centred(labels):
        value = "soft, logits, though they sum to 0 and lie from -1/classes to 1 as centred ones do"
        return kind, Check("labels", value, "warning")
    return kind, Check("labels", "one-hot" if one_hot else f"soft, {kind}", "ok")


def is_one_hot(labels: Tensor) -> bool:
    """Whether labels (n,) or (n, C) are one class an image."""
    if labels.ndim == 1:
        return True
    return _are_probabilities(labels) and bool((labels.amax(1) >= 1 - _ROUNDING).all())


def _are_probabilities(labels: Tensor) -> bool:
    """Whether no entry of (n, C) is negative and every row sums to 1."""
    sums = (labels.sum(1) - 1).abs() <= _ROUNDING
    return bool((labels >= -_ROUNDING).all()) and bool(sums.all())


def _look_centred(labels: Tensor) -> bool:
    """Whether (n, C) are what probabilities minus 1/C are."""
    return _are_probabilities(labels + 1 / labels.shape[1])


def balance(classes: Tensor, names: Sequence[str]) -> list[Check]:
    """How many images each class has; classes (n,) int64."""
    counts = torch.bincount(classes, minlength=len(names))
    empty = [names[int(index)] for index in (counts == 0).nonzero().flatten()]
    low, high = int(counts.min()), int(counts.max())
    value = f"{low}" if low == high else f"{low} to {high}"
    checks = [Check("images a class", value, _odd(low != high))]
    if empty:
        listed = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        checks.append(Check("classes without images", listed, "warning"))
    return checks


def _share_outside(pixels: Tensor) -> float:
    far = (pixels < -_MARGIN) | (pixels > 1 + _MARGIN)
    return float(far.float().mean())


def _some(images: Tensor) -> Tensor:
    """At least so many of them, from all classes; a few thousand tell as much as all."""
    return images[:: max(1, len(images) // _SOME)]


def _percentiles(images: Tensor) -> tuple[Tensor, Tensor]:
    """The dark and the bright end of each channel of (n, c, h, w): (c,) both."""
    channels = _some(images).transpose(0, 1).flatten(1).numpy()
    dark, bright = torch.from_numpy(np.quantile(channels, _ENDS, axis=1))
    return dark, bright


def _correlation(pixels: Tensor) -> float:
    """Correlation of each pixel with the one to its right."""
    pairs = torch.stack([pixels[..., 1:].flatten(), pixels[..., :-1].flatten()]).double()
    return float(torch.corrcoef(pairs)[0, 1].nan_to_num())


def _by_channel(values: Tensor) -> str:
    return "/".join(f"{value:.2f}" for value in values.tolist())


def _odd(condition: bool) -> Verdict:
    return "warning" if condition else "ok"
