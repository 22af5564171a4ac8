"""Write docs/reference/commands.md from the docstrings of the Commands.

Run ``python docs/make_commands.py`` from the top of the repository after a change to a Command;
a test compares the page with what this would write.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "commands.md"

#: The fields of a Command's docstring, in the order of the page.
FIELDS = ("answered-by", "needs", "bound", "repeat", "since")

_HEAD = """\
# Commands

Every Command of ampgrid's AMP vocabulary, by who answers it. Generated from the docstrings in
`commands/` by `docs/make_commands.py`; how boxes travel is in `docs/specs/wire.md`.

Any Command may also be answered with the errors of the first table below. "Repeat" tells whether
it may be sent again when no answer came. An argument in brackets is optional.
"""


def modules() -> list[ModuleType]:
    """Return the modules that hold Commands, in the order of the page."""
    from ampgrid.commands import (
        blob_users,
        blobs,
        control,
        drive,
        introduction,
        session,
        storage,
        vdrive,
    )

    return [session, introduction, storage, vdrive, blobs, control, drive, blob_users]


def commands_of(module: ModuleType) -> list[type[Any]]:
    """Return the Commands that a module defines, in the order of its text."""
    from twisted.protocols import amp

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, amp.Command)
        and value.__module__ == module.__name__
    ]


def split_docstring(command: type[Any]) -> tuple[str, dict[str, str]]:
    """Return the text of a Command's docstring, and its fields.

    Raises:
        ValueError: there is none, or a field is given twice.
    """
    text: list[str] = []
    fields: dict[str, str] = {}
    name = ""
    if not command.__doc__:
        raise ValueError(f"{command.__name__} has no docstring")
    for line in inspect.cleandoc(command.__doc__).splitlines():
        if line.startswith(":"):
            name, _, value = line[1:].partition(":")
            if name in fields:
                raise ValueError(f"{command.__name__} has :{name}: twice")
            fields[name] = value.strip()
        elif name:
            fields[name] = f"{fields[name]} {line.strip()}".strip()
        else:
            text.append(line)
    return "\n".join(text).strip().replace("``", "`"), fields


def _signature(pairs: list[tuple[bytes, Any]]) -> str:
    names = []
    for name, argument in pairs:
        text = f"`{name.decode()}`: {_type_of(argument)}"
        names.append(f"[{text}]" if argument.optional else text)
    return ", ".join(names) or "nothing"


def _type_of(argument: Any) -> str:
    kind = type(argument).__name__
    if kind == "Count":
        return f"Count to {_number(argument.most)}"
    if kind == "Exact":
        return f"{argument.most} bytes"
    if kind == "Octets":
        return f"bytes, {argument.least} to {_number(argument.most)}"
    if kind == "Text":
        return f"text, {_number(argument.most)} bytes at most"
    if kind == "Blobs":
        return f"Blobs, {argument.most} of {argument.item} bytes at most"
    return kind


def _number(value: int) -> str:
    power = value.bit_length()
    if value >= 2**31 and value + 1 == 2**power:
        return f"2^{power} - 1"
    return f"2^{power - 1}" if value >= 2**31 and value == 2 ** (power - 1) else f"{value:,}"


def _errors(command: type[Any]) -> str:
    from ampgrid.commands.base import GridCommand

    common = set(GridCommand.errors.values())
    own = [code.decode() for code in command.allErrors.values() if code not in common]
    return ", ".join(f"`{code}`" for code in sorted(own)) or "none of its own"


def _command(command: type[Any]) -> Iterator[str]:
    text, fields = split_docstring(command)
    yield f"### {command.commandName.decode()}\n"
    yield f"{text}\n"
    yield "| | |\n|---|---|"
    yield f"| Arguments | {_signature(command.arguments)} |"
    yield f"| Answer | {_signature(command.response)} |"
    yield f"| Errors | {_errors(command)} |"
    for name in FIELDS:
        yield f"| {name.replace('-', ' ').capitalize()} | {fields[name]} |"
    yield ""


def _error_table() -> Iterator[str]:
    from ampgrid.commands import errors
    from ampgrid.commands.base import GridCommand

    common = set(GridCommand.errors)
    leaves = [
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, errors.WireError)
        and value is not errors.WireError
    ]
    yield "## Errors\n"
    for title, chosen in (
        ("Of every Command", [leaf for leaf in leaves if leaf in common]),
        ("Of some", [leaf for leaf in leaves if leaf not in common]),
    ):
        yield f"### {title}\n"
        yield "| code | class | meaning |\n|---|---|---|"
        for leaf in chosen:
            meaning = " ".join(inspect.cleandoc(leaf.__doc__ or "").split())
            yield f"| `{leaf.code.decode()}` | `{leaf.__name__}` | {meaning} |"
        yield ""
    yield "A Command that is not served here is answered with AMP's own `UNHANDLED`."


def make_page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for module in modules():
        title = module.__name__.rpartition(".")[2].replace("_", " ").capitalize()
        first = inspect.cleandoc(module.__doc__ or "").splitlines()[0]
        parts.append(f"## {title}\n\n{first}\n")
        for command in commands_of(module):
            parts.extend(_command(command))
    parts.extend(_error_table())
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(make_page(), encoding="utf-8")
