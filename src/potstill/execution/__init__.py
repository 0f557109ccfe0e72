"""Where independent units of work run: one after the other here, or in processes of their own.

A unit's result depends on the unit alone, never on where or in which order it runs.
"""

from potstill.execution.executor import Executor, Tell, Work
from potstill.execution.here import Here
from potstill.execution.processes import Processes, in_processes

__all__ = ["Executor", "Here", "Processes", "Tell", "Work", "in_processes"]
