"""The papers' tables: every printed number, and what it takes to measure the same here.

:mod:`potstill.papers.answers` finds the recipe and the evaluation that answer a row,
:mod:`potstill.papers.departures` says what a run did otherwise, :mod:`potstill.papers.audits` the
same of audits. What is particular to a paper stands in the module of its name.
"""

from potstill.papers.rows import ACCURACY, SECONDS, Row, find, rows, tables

__all__ = ["ACCURACY", "SECONDS", "Row", "find", "rows", "tables"]
