"""What networks are called in print: one text for the command line and the page."""

from __future__ import annotations

from potstill.config import NetworkRecipe


def short_network_text(network: NetworkRecipe) -> str:
    """The network's family, such as ``ConvNet`` or ``resnet18``."""
    return "ConvNet" if network.name == "convnet" else network.name


def network_detail(network: NetworkRecipe) -> str:
    """What tells networks of one family apart, such as ``depth 3, width 64 to 256, batch norm.``.

    The width is that of every block, or of the first and the last. Empty for networks of other
    libraries and of a user's, whose names say all.
    """
    if network.foreign or network.library:
        return ""
    normalisation = "no" if network.normalisation == "none" else network.normalisation
    if network.name != "convnet":
        return f"{normalisation} norm."
    last = network.width * network.growth ** (network.depth - 1)
    width = f"{network.width}" if last == network.width else f"{network.width} to {last}"
    return f"depth {network.depth}, width {width}, {normalisation} norm."


def network_text(network: NetworkRecipe) -> str:
    """Family and detail, such as ``ConvNet, depth 3, width 128, instance norm.``."""
    return ", ".join(filter(None, (short_network_text(network), network_detail(network))))
