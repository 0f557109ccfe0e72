"""Synthesis in sequence: a further term of the objective that sees the groups made before.

The paper's groups know nothing of each other; its limitations name synthesis one after the other
as open, later images moving away from earlier ones. Here a group may have a :data:`Term`: from what
the teacher's last linear layer sees of the group's images to a number that the objective adds, made
by :func:`further` from the earlier images of the same classes. Groups of the same classes are then
made in turn; the first is the one that it is without the term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from potstill.data.preprocess import Preprocess
from potstill.methods.dwa.bn_statistics import MeasuredNetwork

Term = Callable[[Tensor], Tensor]
"""Features (n, F) of a group's images, one of each of its classes -> a scalar, to be small."""

# A unit for earlier images that are the real ones, to the last bit of their features.
_LEAST = 1e-12


def further(
    network: MeasuredNetwork, preprocess: Preprocess, real: Tensor, earlier: Sequence[Tensor]
) -> Term:
    """:class:`Apart` from earlier groups, all seen through the network of the group at hand.

    Args:
        network: the adjusted teacher, which measures features.
        preprocess: from pixels to its network space.
        real: S_0 (n, c, h, w), network space, on its device.
        earlier: the images (n, c, h, w) uint8 of each earlier group, classes in the same order.
    """
    seen = [_features(network, preprocess.apply(images.to(real.device))) for images in earlier]
    own = _features(network, real)
    return Apart(own, torch.stack(seen) if seen else own.new_empty(0, *own.shape))


class Apart:
    """How near a group's images are to the earlier ones of their classes, from 0 to 1.

    With g the features, s_i the group's image of class i, e_ij the j-th of m earlier ones of that
    class, and x_i the real image that the group has of it,

        L_seq = mean over i and j of exp(-|g(s_i) - g(e_ij)|^2 / u),
        u     = mean over i and j of |g(x_i) - g(e_ij)|^2.

    So a group that stays as far from the earlier ones as its real images are has a term of about
    1 / e, and one that repeats them has 1, where the pull is strongest relative to the distance.

    Args:
        real: g(x) (n, F).
        earlier: g(e) (m, n, F); the term is 0 if m is.
    """

    def __init__(self, real: Tensor, earlier: Tensor) -> None:
        self._earlier = earlier
        # NaN without earlier images, and not used then.
        self._unit = _squared_distances(real, earlier).mean().clamp_min(_LEAST)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n, F), with their graph, -> L_seq, a scalar of their type."""
        if not len(self._earlier):
            return features.new_zeros(())
        distances = _squared_distances(features.to(self._earlier.dtype), self._earlier)
        return torch.exp(-distances / self._unit).mean()


def _squared_distances(features: Tensor, earlier: Tensor) -> Tensor:
    """Of (n, F) and (m, n, F): (m, n)."""
    return (features - earlier).square().sum(-1)


@torch.no_grad()
def _features(network: MeasuredNetwork, images: Tensor) -> Tensor:
    network(images)
    return network.features.float()
