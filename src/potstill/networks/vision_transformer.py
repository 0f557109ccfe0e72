"""DeiT-Tiny, and its form with batch norms that DWA inverts (Table 9).

timm's vision transformer: 12 blocks of width 192 with 3 heads, a class token, patches of 16 px;
of 8 px for images up to 64 px, of 4 up to 32, so that 32, 64 and 224 px make 64, 64 and 196
tokens. In the form with batch norms every layer norm normalises over batch and tokens instead,
and one more stands between the two linear layers of each feed-forward block, after the
activation (timm's place for it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from potstill.config import NetworkRecipe, Normalisation
from potstill.errors import NetworkError

NORMALISATIONS: Mapping[str, Normalisation] = {"deit_tiny": "layer", "deit_tiny_bn": "batch"}
"""The one normalisation that each transformer comes with."""


class TokenBatchNorm(nn.Module):
    """Batch norm over batch and tokens, for each of ``channels``.

    ``factory`` holds device and dtype, which timm passes to every layer.
    """

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, t, channels) to tokens of the same shape."""
        normalised: Tensor = self.norm(tokens.flatten(0, 1))
        return normalised.view_as(tokens)


def vision_transformer(
    recipe: NetworkRecipe, channels: int, resolution: int, classes: int
) -> tuple[nn.Module, nn.Linear]:
    """Body, from images (n, c, h, w) to the class token (n, 192), and head.

    Raises:
        NetworkError: another normalisation than the network's own, or images that
            patches do not tile.
    """
    own = NORMALISATIONS[recipe.name]
    if recipe.normalisation != own:
        raise NetworkError(
            f"{recipe.name} comes with {own} normalisation, not {recipe.normalisation}; "
            f"set network.normalisation to {own}"
        )
    patch = 4 if resolution <= 32 else 8 if resolution <= 64 else 16
    if resolution % patch:
        raise NetworkError(
            f"{recipe.name} does not fit images of {resolution} px: its patches of {patch} px do "
            "not tile them; take another size (data.resolution) or another network"
        )
    body: Any = VisionTransformer(
        img_size=resolution,
        patch_size=patch,
        in_chans=channels,
        num_classes=classes,
        embed_dim=192,
        depth=12,
        num_heads=3,
        norm_layer=TokenBatchNorm if own == "batch" else None,
    )
    for block in body.blocks:
        # PyTorch's fused attention has no second derivatives, and no fixed result on a GPU.
        block.attn.fused_attn = False
        if own == "batch":
            block.mlp.norm = TokenBatchNorm(block.mlp.fc1.out_features)
    head: nn.Linear = body.head
    body.head = nn.Identity()
    return body, head
