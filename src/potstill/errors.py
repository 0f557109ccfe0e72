"""Exceptions a user can mend.

Every message is one line: what is wrong, then what to do about it. The command
line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations


class PotstillError(Exception):
    """Base of every error that a user can mend."""


class RecipeError(PotstillError):
    """A recipe is unknown, malformed, or asks for something impossible."""


class DataError(PotstillError):
    """A data set is missing, unreadable, or does not fit the recipe."""


class NetworkError(PotstillError):
    """A network is unknown or does not fit the images."""


class ArtefactError(PotstillError):
    """A distilled file is truncated, altered, of another format, or not ours."""


class RunError(PotstillError):
    """A run's folder cannot be written, or cannot be resumed from."""


class NumericalError(PotstillError):
    """A computation left the finite numbers; the last good state is kept."""


class PotstillWarning(UserWarning):
    """What a user should know and the work can go on with: one line, as errors have it."""
