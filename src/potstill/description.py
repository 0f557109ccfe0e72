"""What a method says of a set that it made, as plain data: pages show it and know no method."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Line = Annotated[str, Field(max_length=1000)]
Scale = Literal["percent", "exponential"]


class Fact(NamedTuple):
    """A line at the head of a page: a name, a value, and a remark on the value."""

    name: Line
    value: Line
    remark: Line = ""


class Curve(NamedTuple):
    """A logged quantity in a drawing: its legend, and its name in the log."""

    legend: Line
    quantity: Line


class Panel(BaseModel):
    """Logged quantities that share a drawing."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=1000)

    title: str
    curves: tuple[Curve, ...] = Field(max_length=3)
    note: str = ""
    unit: str = ""
    logarithmic: bool = False
    scale: Scale | None = None
    """What is drawn of a number in the log: 100 times it, or its exponential; itself if None."""


class Description(BaseModel):
    """A set in words, written into its header when it is made."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=1000)

    title: str
    """The method's name, as papers write it."""
    detail: str = ""
    """What sets this set's method apart from others of the name."""
    facts: tuple[Fact, ...] = Field((), max_length=1000)
    panels: tuple[Panel, ...] = Field((), max_length=1000)
    period: int | None = None
    """The log repeats after so many iterations, one group of images after the other; drawings
    show the mean over the groups. None if it does not."""
    learned_labels: bool = False
    """Whether the labels were learned, so that there is something to see in them."""
