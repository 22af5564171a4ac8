"""What is made of measured numbers: medians, their spread, ratios, goals, and tables of them.

A measurement is a number under a name, such as ``download 100 MB``, for one of the systems that
are compared. `Figures` collects them over the runs; nothing here measures anything.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen
from rich.table import Table

#: Whether a larger or a smaller number is the better one.
Better = Literal["more", "less"]


@frozen
class Figure:
    """The numbers of one system for one thing, one of each run.

    Attributes:
        values: in the order of the runs; at least one.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "median": self.median,
            "least": self.least,
            "most": self.most,
            "values": list(self.values),
        }

    def __str__(self) -> str:
        if len(self.values) == 1:
            return short(self.median)
        return f"{short(self.median)} ({short(self.least)} to {short(self.most)})"


def short(number: float) -> str:
    """Return a number with three digits that count.

    >>> short(1234.5), short(12.345), short(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    text = f"{number:#.3g}"
    return text.removesuffix(".")


@frozen
class Row:
    """One thing that was measured.

    Attributes:
        name: what, such as ``upload 1 MB``.
        unit: of the numbers, such as ``MB/s``.
        better: whether more or less is better.
    """

    name: str
    unit: str
    better: Better = "more"


@frozen
class Figures:
    """Numbers by row and system, in the order in which the rows came.

    Attributes:
        rows: name -> row.
    """

    rows: dict[str, Row] = field(factory=dict)
    _values: dict[tuple[str, str], list[float]] = field(factory=dict)

    def add(self, row: Row, system: str, value: float) -> None:
        """Note the number of one run.

        Raises:
            ValueError: a row of this name has another unit.
        """
        if self.rows.setdefault(row.name, row) != row:
            raise ValueError(f"{row.name!r} was measured as {self.rows[row.name]}")
        self._values.setdefault((row.name, system), []).append(value)

    def get(self, name: str, system: str) -> Figure | None:
        """Return the figure of a system, None if it has none."""
        values = self._values.get((name, system))
        return Figure(tuple(values)) if values else None

    def ratio(self, name: str, system: str, to: str) -> float | None:
        """Return a system's median over that of another; None if either is missing, or zero."""
        ours, theirs = self.get(name, system), self.get(name, to)
        if ours is None or theirs is None or not theirs.median:
            return None
        return ours.median / theirs.median

    def to_json(self) -> dict[str, Any]:
        """Return all of it for JSON: row -> unit, and the figure of each system."""
        document: dict[str, Any] = {}
        for (name, system), values in self._values.items():
            row = self.rows[name]
            there = document.setdefault(name, {"unit": row.unit, "better": row.better})
            there[system] = Figure(tuple(values)).to_json()
        return document


@frozen
class Goal:
    """Something that shall be reached.

    Attributes:
        name: the row that it is about.
        bound: the number to reach.
        sense: ``least``: the number must be at least the bound; ``most``: at most; ``below``:
            less than it.
        to: the system whose median ours is divided by; None for ours as it is.
        to_name: the row that ours is divided by, if that is another.
        asked: what has to be reached at least, easier than the bound; None where that is the
            bound.
    """

    name: str
    bound: float
    sense: Literal["least", "most", "below"]
    to: str | None = None
    to_name: str | None = None
    asked: float | None = None

    def reached(self, figures: Figures, system: str) -> float | None:
        """Return the number that the bound is for; None if it was not measured."""
        if self.to_name is not None:
            ours, other = figures.get(self.name, system), figures.get(self.to_name, system)
            if ours is None or other is None or not other.median:
                return None
            return ours.median / other.median
        if self.to is not None:
            return figures.ratio(self.name, system, self.to)
        figure = figures.get(self.name, system)
        return None if figure is None else figure.median

    def holds(self, number: float) -> bool:
        """Tell whether a number reaches the goal."""
        return self._passes(number, self.bound)

    def suffices(self, number: float) -> bool:
        """Tell whether a number reaches what is asked."""
        return self._passes(number, self.bound if self.asked is None else self.asked)

    def _passes(self, number: float, bound: float) -> bool:
        if self.sense == "least":
            return number >= bound
        return number < bound if self.sense == "below" else number <= bound

    def line(self, number: float) -> str:
        """Return the goal and what was reached, such as ``goal 5 x, reached 6.1 x``."""
        words = {"least": "goal", "most": "goal at most", "below": "goal below"}[self.sense]
        unit = " x" if self.to is not None or self.to_name is not None else ""
        asked = "" if self.asked is None else f"asked {self.asked:g}{unit}, "
        return f"{asked}{words} {self.bound:g}{unit}, reached {short(number)}{unit}"

    def what(self) -> str:
        """Return what it is about."""
        return self.name if self.to_name is None else f"{self.name}, over {self.to_name}"


@frozen
class Verdict:
    """A goal beside what was measured.

    Attributes:
        goal: the goal.
        number: what was measured.
    """

    goal: Goal
    number: float

    @property
    def holds(self) -> bool:
        """Whether it was reached."""
        return self.goal.holds(self.number)

    def word(self) -> str:
        """Return whether it holds, for a table: ``yes``, ``no``, or ``as asked``, short of it."""
        if self.holds:
            return "yes"
        return "as asked" if self.goal.suffices(self.number) else "no"

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "what": self.goal.what(),
            "sense": self.goal.sense,
            "bound": self.goal.bound,
            "asked": self.goal.asked,
            "reached": self.number,
            "holds": self.holds,
        }


def judge(goals: Iterable[Goal], figures: Figures, system: str) -> list[Verdict]:
    """Return the verdicts over those goals that something was measured for."""
    numbers = [(goal, goal.reached(figures, system)) for goal in goals]
    return [Verdict(goal, number) for goal, number in numbers if number is not None]


def figures_table(title: str, figures: Figures, systems: Sequence[str], to: str) -> Table:
    """Return a table: a row each, the systems side by side, and the ratio to one of them."""
    lesser = all(row.better == "less" for row in figures.rows.values())
    table = Table(title=f"{title} (less is better)" if lesser else title, title_justify="left")
    table.add_column("")
    table.add_column("unit")
    for system in systems:
        table.add_column(system, justify="right")
        if system != to and to in systems:
            table.add_column("ratio", justify="right", style="bold")
    for row in figures.rows.values():
        cells = []
        for system in systems:
            figure = figures.get(row.name, system)
            cells.append("" if figure is None else str(figure))
            if system != to and to in systems:
                ratio = figures.ratio(row.name, system, to)
                cells.append("" if ratio is None else f"{short(ratio)} x")
        unit = row.unit if lesser or row.better == "more" else f"{row.unit} (less is better)"
        table.add_row(row.name, unit, *cells)
    return table


def goals_table(verdicts: Iterable[Verdict]) -> Table:
    """Return a table of goals, and whether they hold."""
    table = Table(title="Goals", title_justify="left")
    for name in ("", "", "holds"):
        table.add_column(name)
    for verdict in verdicts:
        style = "green" if verdict.holds else "bold red"
        holds = f"[{style}]{verdict.word()}"
        table.add_row(verdict.goal.what(), verdict.goal.line(verdict.number), holds)
    return table


def merged(documents: Mapping[str, Figures]) -> dict[str, Any]:
    """Return several kinds of figures for JSON."""
    return {name: figures.to_json() for name, figures in documents.items()}
