"""Requests of every kind to the JSON routes of a real gateway; none may be answered with a 500.

schemathesis makes them from ``docs/reference/openapi.yaml``: what the file allows, and what it
does not. What it allows has to be answered as it describes; the rest without a fault.

Usage: ``python -m tests.campaigns.http_fuzz --count 200 --seed 1``
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.processes import ROOT, TWO_OF_THREE, Grid

SCHEMA = ROOT / "docs" / "reference" / "openapi.yaml"
AS_DESCRIBED = [status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = {
    GenerationMode.POSITIVE: [not_a_server_error, *AS_DESCRIBED],
    GenerationMode.NEGATIVE: [not_a_server_error],
}


def operations(schema: Any) -> Iterator[Any]:
    """Yield every operation of the file."""
    for result in schema.get_all_operations():
        yield result.ok()


def fuzz_operation(operation: Any, web: str, caps: list[str], count: int, seed: int) -> int:
    """Ask one operation with many requests; returns how many.

    Args:
        operation: of the schema.
        web: address of the gateway.
        caps: that something is behind: every second request is of one of them.
        count: of requests that fit the file, and of such that do not.
        seed: of what is drawn.
    """
    asked = 0
    for mode, checks in MODES.items():
        cases = operation.as_strategy(generation_mode=mode)
        asked += _ask(cases, checks, web, caps, count, seed)
    return asked


def _ask(cases: Any, checks: list[Any], web: str, caps: list[str], count: int, seed: int) -> int:
    asked = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(cases)
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        if "cap" in case.path_parameters and asked % 2:
            case.path_parameters["cap"] = caps[asked // 2 % len(caps)]
        response = case.call(base_url=web)
        case.validate_response(response, checks=checks)

    # Nothing can be asked wrongly where nothing can be told.
    with suppress(hypothesis.errors.Unsatisfiable):
        ask()
    return asked


def known_caps(web: str) -> list[str]:
    """Make a small file, a larger one and a directory, and return their caps."""
    caps = []
    for path, body in (("/uri", b"small"), ("/uri", b"large" * 10_000), ("/uri?t=mkdir", b"")):
        with urlopen(Request(web + path, data=body, method="PUT")) as reply:
            caps.append(reply.read().decode())
    return caps


def run(count: int, seed: int) -> dict[str, int]:
    """Ask a gateway of a new grid; returns how many requests each operation got.

    Raises:
        Exception: an answer is a 500, or none that the file describes.
    """
    schema = schemathesis.openapi.from_path(str(SCHEMA))
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid(Path(folder) / "grid", *TWO_OF_THREE)
        try:
            web = grid.ready["client"]["web"].rstrip("/")
            caps = known_caps(web)
            return {
                each.label: fuzz_operation(each, web, caps, count, seed)
                for each in operations(schema)
            }
        finally:
            grid.end()


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="requests an operation and mode")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    for label, asked in run(wanted.count, wanted.seed).items():
        print(f"{label}: {asked} requests, no 500, every answer as described")


if __name__ == "__main__":
    main()
