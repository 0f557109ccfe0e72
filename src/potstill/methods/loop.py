"""The loop of a method that iterates: log, progress, checkpoints, and a stop between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from potstill import checkpoints, interrupt
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe

if TYPE_CHECKING:
    from potstill.runs import Run


class Iterated(Protocol):
    """What a method learns, and the step that advances it.

    Random streams are functions of the iteration, so that a state needs no generator's.
    """

    iteration: int
    """Number of steps done."""

    def step(self) -> Mapping[str, float]:
        """Advance by one step; numbers for the log."""

    def state(self) -> Any:
        """All that :meth:`restore` needs, as checkpoints take it.

        Raises:
            NumericalError: what is learned has left the finite numbers.
        """

    def restore(self, iteration: int, state: Any) -> None:
        """Go on from what :meth:`state` gave after ``iteration`` steps."""


def iterate(what: Iterated, iterations: int, recipe: Recipe, session: Session) -> None:
    """Go on from the run's newest checkpoint, if there is one, to so many iterations.

    Raises:
        RunError: the checkpoint is of something else.
        NumericalError: from a step or a state; the newest checkpoint stands.
        KeyboardInterrupt: after a checkpoint was written.
    """
    run = session.run
    if run:
        _go_on(what, run)
    with interrupt.deferred() as ctrl_c:
        while what.iteration < iterations:
            metrics = what.step()
            done, last = what.iteration, what.iteration == iterations
            if run and (done % recipe.log_every == 0 or last):
                run.log(done, metrics)
            session.progress("iteration", done, iterations, **metrics)
            if run and (done % recipe.checkpoint_every == 0 or last or ctrl_c.requested):
                run.save_checkpoint(done, what.state())
            if ctrl_c.requested:
                raise KeyboardInterrupt


def _go_on(what: Iterated, run: Run) -> None:
    """Restore ``what`` from the run's checkpoint, if it has one, and let go of that."""
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        return
    iteration, state = checkpoint
    with checkpoints.restoring(run.path):
        checkpoints.require_like(state, what.state())
        what.restore(iteration, state)
