"""Series of measured numbers: as tables, as JSON, as plots that come out the same again.

A `Series` is one table: what was changed on purpose, and what was measured at each of its values.
`draw` makes an SVG of it. The same numbers give the same bytes: no date, no random ids, text as
text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks import pages

_STYLE = {
    "svg.hashsalt": "ampgrid",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_PANEL_INCHES = (3.6, 2.8)


@attrs.frozen
class Panel:
    """One diagram of a plot.

    Attributes:
        unit: what stands at its vertical axis.
        columns: which columns are drawn in it.
        log: whether the vertical axis is logarithmic.
    """

    unit: str
    columns: Sequence[str]
    log: bool = False


@attrs.frozen
class Series:
    """What was measured while one thing changed.

    Attributes:
        name: in the names of its section and of its file, such as ``files``.
        over: what changed.
        values: of that, in order; text for what has no order of size.
        columns: the measured numbers by name, as many as values; nan where there is none.
        panels: how they are drawn.
    """

    name: str
    over: str
    values: Sequence[float | str]
    columns: Mapping[str, Sequence[float]]
    panels: Sequence[Panel]

    @property
    def file_name(self) -> str:
        """The name of its plot."""
        return f"scale-{self.name}.svg"

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"over": self.over, "values": list(self.values), **self.columns}

    def rows(self) -> list[list[Any]]:
        """Return the rows of its table."""
        columns = self.columns.values()
        return [
            [value if isinstance(value, str) else f"{value:,}", *(c[at] for c in columns)]
            for at, value in enumerate(self.values)
        ]

    def section(self) -> str:
        """Return its plot and its table, in Markdown."""
        image = f"![{', '.join(self.columns)}, over {self.over}]({self.file_name})"
        return f"{image}\n\n{pages.table([self.over, *self.columns], self.rows())}"


def draw(series: Series, path: Path) -> None:
    """Write a plot.

    Args:
        series: what is drawn.
        path: of the SVG file.
    """
    import matplotlib as mpl

    # No window: it would ask for a display.
    mpl.use("svg")
    import matplotlib.pyplot as plt

    width, height = _PANEL_INCHES
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1,
            len(series.panels),
            figsize=(width * len(series.panels), height),
            squeeze=False,
            layout="constrained",
        )
        for panel, axis in zip(series.panels, axes[0], strict=True):
            _draw_panel(series, panel, axis)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _draw_panel(series: Series, panel: Panel, axis: Any) -> None:
    for column in panel.columns:
        axis.plot(series.values, series.columns[column], marker="o", markersize=3, label=column)
    if not any(isinstance(value, str) for value in series.values):
        axis.set_xscale("log")
    if panel.log:
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlabel(series.over)
    axis.set_ylabel(panel.unit)
    axis.legend(frameon=False)
