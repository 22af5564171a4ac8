"""Imports that wait until somebody needs them.

A node that only serves loads none of the client's half, though both are in the same packages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import Any


def names_of(package: str, places: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports what it offers (PEP 562).

    Beside it the package imports the same names under ``TYPE_CHECKING``, for readers and for the
    checks of types and floors.

    Args:
        package: its ``__name__``.
        places: the names that each of its modules has for it, {module: names}.
    """
    homes = {name: module for module, names in places.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        # The next time it is there.
        setattr(sys.modules[package], name, found)
        return found

    return find


def postpone(package: str, module: str) -> None:
    """Let a module that others import be loaded when it is used first; nothing if it is there.

    It is for what libraries import and this program does not use, in one form alone, ``from
    package import module``: any other looks into the module, which then is loaded at once.
    """
    name = f"{package}.{module}"
    if name in sys.modules:
        return
    home = import_module(package)
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = LazyLoader(spec.loader)
    found = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(found)
    setattr(home, module, found)
