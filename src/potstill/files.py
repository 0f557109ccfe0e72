"""Files that are either whole or not there, and nothing but files where files are read."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from potstill.errors import PotstillError, RunError
from potstill.quoting import quoted

_REMEDIES = {
    errno.ENOSPC: "free space, then resume or repeat",
    errno.EDQUOT: "free space or raise the quota, then resume or repeat",
    errno.EACCES: "choose a place you may write to, or change its permissions",
    errno.EPERM: "choose a place you may write to, or change its permissions",
    errno.EROFS: "choose a place you may write to",
    errno.ENOENT: "create its folder first",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EISDIR: "choose a path that is no folder",
}

_TEMPORARY = re.compile(r"\.potstill-[0-9a-f]{32}\.tmp")


def open_regular(path: Path | str) -> BinaryIO:
    """The file ``path``, open for reading its bytes.

    Raises:
        OSError: it cannot be opened, or is none that ends: a pipe, a socket or a device, on
            which a reader may wait for ever.
    """
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # of a folder the system speaks itself
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return open(path, "rb")


def atomic_write(path: Path | str, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write ``path`` so that a reader sees the old file or the whole new one, never a part.

    The bytes go to a temporary file in the same folder, whose name nobody can foresee
    (``.potstill-RANDOM.tmp``), reach the disk, and only then take the name. Whatever goes wrong,
    an interrupt included, the temporary file is removed and the old file stays. A process that is
    killed leaves it, for :func:`remove_leftovers`.

    Args:
        path: the file to make or replace; its folder must exist.
        content: the bytes, or a callable that writes them to the open binary file it is given.

    Raises:
        RunError: the disk is full, the folder is missing or may not be written to, ...
    """
    path = Path(path)
    temporary = path.with_name(f".potstill-{secrets.token_hex(16)}.tmp")
    try:
        with open(temporary, "xb", opener=_no_link) as file:
            try:
                _hold(file)
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                _remove(temporary)
                raise
    except OSError as error:
        raise _explain(path, error) from error
    _sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that ask for this from a file which the block reads and then replaces.

    A file that is not there, or may not be opened, is left to the block to complain of; a file
    system without locks goes without.
    """
    descriptor = _lock(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in ``folder`` that a killed process has left.

    One that another process is still writing stays: its writer holds a lock on it.
    """
    try:
        paths = list(folder.iterdir())
    except OSError:
        return  # whoever wants to write there will say why that cannot be
    for path in paths:
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError), open(path, "rb", opener=_no_link) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def make_folder(path: Path) -> None:
    """Make the folder ``path`` and those above it, where they are not there.

    Raises:
        RunError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explain(path, error) from error


def expanded(path: Path | str, error: type[PotstillError] = RunError) -> Path:
    """``path`` with ``~`` and ``~user`` in the place of home folders; nothing need be there.

    Raises:
        PotstillError: ``error``, as there is no such user, or no file system has such a path.
    """
    try:
        found = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            found.stat()
    except (RuntimeError, OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise error(f"cannot use path {quoted(str(path))}: {reason}; correct it") from None
    return found


def _lock(path: Path) -> int | None:
    """A descriptor of the file that has this name once the lock is had; None without a lock."""
    while True:
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except OSError:
            if descriptor is not None:
                os.close(descriptor)
            return None
        # Whoever held the lock has put another file in its place.
        os.close(descriptor)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _hold(file: BinaryIO) -> None:
    """Lock a temporary file for as long as it is open, where the file system has locks."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(temporary: Path) -> None:
    # The first failure is the one to report: a folder that cannot be written cannot be cleaned.
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return


def _explain(path: Path, error: OSError) -> RunError:
    cause = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk, then resume or repeat")
    untouched = " (the old file is untouched)" if path.is_file() else ""
    return RunError(f"cannot write {path}: {cause}; {remedy}{untouched}")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
