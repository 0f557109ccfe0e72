"""Distilled sets for others: folders that Hugging Face ``datasets`` reads, and its hub.

Needs the extra ``hub``; everything that imports its libraries does so when it is used.
"""

from potstill.sharing.folder import write_folder
from potstill.sharing.hub import pull, push

__all__ = ["pull", "push", "write_folder"]
