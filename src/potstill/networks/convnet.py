"""The ConvNet of the field (RCIG, Appendix C; with one width throughout, DWA, Table 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import NetworkError

# softplus is linear beyond this multiple of 1/beta, to the last bit of float64;
# PyTorch's default of 20 is off by 2e-9, which finite differences notice.
SOFTPLUS_THRESHOLD = 40.0


class Softplus(nn.Module):
    """s(x) = softplus(beta x) / beta, exact in float64; s(x) - s(x - c) under a ceiling c.

    The smooth ReLU, and with ceiling 6 the smooth ReLU6.
    """

    def __init__(self, beta: float, ceiling: float | None = None) -> None:
        super().__init__()
        self.beta = beta
        self.ceiling = ceiling

    def forward(self, x: Tensor) -> Tensor:
        """Activations of any shape, element by element, to the same shape."""
        y = F.softplus(x, self.beta, SOFTPLUS_THRESHOLD)
        if self.ceiling is None:
            return y
        return y - F.softplus(x - self.ceiling, self.beta, SOFTPLUS_THRESHOLD)


class ConvNet(nn.Module):
    """``depth`` blocks of 3x3 convolution, normalisation, activation, 2x2 mean; then linear.

    Widths grow from block to block: ``width``, ``growth`` ``width``, ... The first
    convolution of a one-channel 28 px image pads 3, so that 32 px come out; every
    other one pads 1.

    Args:
        channels: c, of the images: 1 or 3.
        resolution: side of the images in pixels.
        classes: outputs, C.
        depth: blocks; the field takes 3 up to 32 px, 4 at 64, 5 at 128.
        width: channels of the first block.
        normalisation: none, batch, instance, group (one group) or layer.
        softplus_beta: activation softplus(beta x)/beta, ReLU if None.
        growth: each block's channels over the last one's; RCIG doubles them, DWA has 1.

    Raises:
        NetworkError: the image is too small for the depth, or unknown normalisation.
    """

    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int,
        depth: int = 3,
        width: int = 128,
        normalisation: str = "none",
        softplus_beta: float | None = None,
        growth: int = 2,
    ) -> None:
        super().__init__()
        self.padding = [3 if (channels == 1 and resolution == 28) else 1] + [1] * (depth - 1)
        side = resolution + 2 * (self.padding[0] - 1)
        if side < 2:
            raise NetworkError(
                f"images of {resolution} px are too small for a ConvNet, which halves them; take "
                "larger images (data.resolution) or another network"
            )
        if side >> depth < 1:
            raise NetworkError(
                f"a ConvNet of depth {depth} halves {resolution} px to nothing; "
                f"set network.depth to at most {side.bit_length() - 1}"
            )
        self.softplus_beta = softplus_beta
        self.normalisation = normalisation
        self.blocks = nn.ModuleList()
        for block in range(depth):
            out = width * growth**block
            activation = nn.ReLU() if softplus_beta is None else Softplus(softplus_beta)
            layers = nn.Sequential()
            layers.add_module("conv", nn.Conv2d(channels, out, 3, padding=self.padding[block]))
            if normalisation != "none":
                layers.add_module("norm", norm_layer(normalisation, out, side))
            layers.add_module("activation", activation)
            layers.add_module("pool", nn.AvgPool2d(2))
            self.blocks.append(layers)
            channels, side = out, side // 2
        self.head = nn.Linear(channels * side * side, classes)

    def features(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> h(x) (n, H), what the last layer sees."""
        for block in self.blocks:
            images = block(images)
        return images.flatten(1)

    def activations(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (n, c, h, w) -> what each block's activation gives, before pooling, and h(x).

        The maps are (n, width_j, h_j, w_j) for block j; h(x) is as :meth:`features` gives it.
        """
        maps = []
        for block in self.blocks:
            *layers, pool = block.children()
            for layer in layers:
                images = layer(images)
            maps.append(images)
            images = pool(images)
        return maps, images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> outputs (n, C)."""
        outputs: Tensor = self.head(self.features(images))
        return outputs


def norm_layer(kind: str, channels: int, side: int) -> nn.Module:
    """A normalisation layer by name for (n, channels, side, side)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "group":
        return nn.GroupNorm(1, channels)
    if kind == "layer":
        return nn.LayerNorm([channels, side, side])
    raise NetworkError(f"unknown normalisation {kind!r}; use none, batch, instance, group or layer")


def channels_last(images: Tensor) -> Tensor:
    """``images`` in channels-last strides, also where PyTorch sees no difference (c = 1).

    Themselves, not a copy, where they have them.
    """
    _, c, h, w = images.shape
    strides = (c * h * w, 1, w * c, c)
    if images.stride() == strides:
        return images
    out = torch.empty_strided(images.shape, strides, dtype=images.dtype, device=images.device)
    return out.copy_(images)
