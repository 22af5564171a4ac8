"""Writes what `compare.py` told as JSON into its page, ``docs/performance/README.md``.

    python tests/benchmarks/compare.py --json figures.json
    python -m tests.benchmarks.compared figures.json docs/performance/README.md

The tables stand between marks (`tests.benchmarks.pages`); a document of ``--slow`` has sections of
its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import pages
from tests.benchmarks.figures import short
from tests.benchmarks.systems import SYSTEMS, TAHOE

_SENSES = {"least": "at least", "most": "at most", "below": "less than"}


def sections(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each section for what one run told."""
    begin = "slow" if document["slow"] else "compared"
    told = {f"{begin}-how": _how(document)}
    for kind in ("speed", "cpu", "memory"):
        told[f"{begin}-{kind}"] = _figures(document[kind])
    told[f"{begin}-goals"] = pages.table(("", "goal", "reached"), _goals(document["goals"]))
    return told


def _how(document: Mapping[str, Any]) -> str:
    versions = " and ".join(f"{name} {number}" for name, number in document["versions"].items())
    machine = document["machine"]
    return (
        f"{versions}; {document['runs']} runs; {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB of memory, Python {machine['python']}; "
        f"load at the start {machine['load_at_the_start']:.1f}."
    )


def _figures(rows: Mapping[str, Mapping[str, Any]]) -> str:
    systems = _systems(rows.values())
    heads = ["", "unit"]
    for system in systems:
        heads += [system, "over it"] if system != TAHOE and TAHOE in systems else [system]
    return pages.table(heads, ([name, *_cells(row, systems)] for name, row in rows.items()))


def _systems(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every system that has a figure, in the order of all tables."""
    found = {key for row in rows for key in row}
    return [system for system in SYSTEMS if system in found]


def _cells(row: Mapping[str, Any], systems: Sequence[str]) -> Iterator[str]:
    yield str(row["unit"])
    other = row[TAHOE]["median"] if TAHOE in row else 0
    for system in systems:
        figure = row.get(system)
        yield "" if figure is None else _spread(figure)
        if system != TAHOE and TAHOE in systems:
            yield f"{short(figure['median'] / other)} x" if figure and other else ""


def _spread(figure: Mapping[str, Any]) -> str:
    if len(figure["values"]) == 1:
        return short(figure["median"])
    return f"{short(figure['median'])} ({short(figure['least'])} to {short(figure['most'])})"


def _goals(goals: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for goal in goals:
        reached = short(goal["reached"])
        number = f"{_SENSES[goal['sense']]} {goal['bound']:g}"
        yield goal["what"], number, reached if goal["holds"] else f"{reached}: not reached"


def main(words: Sequence[str] | None = None) -> None:
    """Run it from the command line.

    Raises:
        SystemExit: figures or page cannot be used; why was told, and the status is 2.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, help="what compare.py wrote with --json")
    parser.add_argument("page", type=Path, help="where its tables go")
    options = parser.parse_args(words)
    try:
        told = sections(json.loads(options.figures.read_text("utf-8")))
    except OSError as error:
        parser.error(f"{options.figures} cannot be read: {error.strerror}")
    except (ValueError, LookupError, TypeError, AttributeError):
        parser.error(f"{options.figures} is not what compare.py writes with --json")
    try:
        pages.put(options.page, told)
    except OSError as error:
        parser.error(f"{options.page} cannot be rewritten: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
