from __future__ import annotations

import os
import signal
import uuid

# Before PyTorch is imported: tests are many and small, and run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from potstill import cli

# A shell starts what runs in the background deaf to Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines differ in speed; whether a test passes may not.
settings.register_profile("potstill", deadline=None)
settings.load_profile("potstill")


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """What a run does to its process is undone: hypothesis wants denormal numbers."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _nothing_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What one test keeps for the next time is not there in another, nor in the user's cache."""
    place = tmp_path_factory.getbasetemp() / "kept" / uuid.uuid4().hex
    monkeypatch.setenv("POTSTILL_CACHE", str(place))


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds; what it prints on standard output."""

    def ask(*words: str | Path) -> str:
        capsys.readouterr()
        assert cli.run([str(word) for word in words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return ask


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that the user got wrong; the one line it answers with."""

    def attempt(*words: str | Path) -> str:
        capsys.readouterr()
        assert cli.run([str(word) for word in words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        last = printed.err.splitlines()[-1]
        assert last.startswith("error: ")
        return last

    return attempt
