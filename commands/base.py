"""What every Command has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from keyword import iskeyword
from typing import Any, ClassVar, NamedTuple

from twisted.protocols import amp

from ampgrid.commands import errors as e


def error_map(*leaves: type[e.WireError]) -> dict[type[Exception], bytes]:
    """Return the map that a Command declares for these leaves."""
    return {leaf: leaf.code for leaf in leaves}


class _Field(NamedTuple):
    """One argument, with what stock AMP would work out anew for each box."""

    wire: bytes
    name: str
    optional: bool
    read: Callable[..., Any]
    write: Callable[..., bytes]
    takes_protocol: bool


def _name_of(wire: bytes) -> str:
    name = wire.decode("ascii")
    return name.title() if iskeyword(name) else name


@cache
def _fields(command: type[amp.Command], answer: bool) -> tuple[_Field, ...]:
    arguments: Sequence[tuple[bytes, Any]] = command.response if answer else command.arguments
    fields = []
    for wire, argument in arguments:
        kind = type(argument)
        plain = (
            kind.fromStringProto is amp.Argument.fromStringProto
            and kind.toStringProto is amp.Argument.toStringProto
        )
        fields.append(
            _Field(
                wire,
                _name_of(wire),
                argument.optional,
                argument.fromString if plain else argument.fromStringProto,
                argument.toString if plain else argument.toStringProto,
                not plain,
            )
        )
    return tuple(fields)


@cache
def _names(command: type[amp.Command]) -> frozenset[str]:
    return frozenset(field.name for field in _fields(command, False))


def _read(fields: tuple[_Field, ...], box: dict[bytes, bytes], proto: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for wire, name, optional, read, _write, takes_protocol in fields:
        value = box.get(wire) if optional else box[wire]
        if value is not None:
            value = read(value, proto) if takes_protocol else read(value)
        values[name] = value
    return values


def _write(fields: tuple[_Field, ...], values: dict[str, Any], proto: Any, box: Any) -> Any:
    for wire, name, optional, _read, write, takes_protocol in fields:
        value = values.get(name) if optional else values[name]
        if value is not None or not optional:
            box[wire] = write(value, proto) if takes_protocol else write(value)
    return box


def _empty(kind: Any) -> Any:
    """Return an empty box, without the initialiser, which goes through what it is given twice."""
    return kind.__new__(kind)


class GridCommand(amp.Command):
    """The base of every Command: the errors that any of them may answer.

    A Command's docstring ends with fields that a test reads:

    * ``:answered-by:`` who answers it;
    * ``:needs:`` what must have happened before;
    * ``:bound:`` how large the two boxes can be;
    * ``:repeat:`` whether it may be sent again when no answer came;
    * ``:since:`` the version of the protocol that has it.
    """

    errors: ClassVar[dict[type[Exception], bytes]] = error_map(
        e.InternalWireError, e.BadArgumentError, e.NotAllowedError, e.BusyError
    )

    # As in stock AMP, but what depends on the Command alone is worked out once.

    @classmethod
    def makeArguments(cls, objects: dict[str, Any], proto: Any) -> Any:  # noqa: N802
        """Return the box of a call."""
        if not objects.keys() <= _names(cls):
            unknown = next(name for name in objects if name not in _names(cls))
            raise amp.InvalidSignature(f"{unknown} is not a valid argument")
        return _write(_fields(cls, False), objects, proto, _empty(cls.commandType))

    @classmethod
    def makeResponse(cls, objects: dict[str, Any], proto: Any) -> Any:  # noqa: N802
        """Return the box of an answer."""
        return _write(_fields(cls, True), objects, proto, _empty(cls.responseType))

    @classmethod
    def parseArguments(cls, box: Any, protocol: Any) -> dict[str, Any]:  # noqa: N802
        """Return the arguments of a call."""
        return _read(_fields(cls, False), box, protocol)

    @classmethod
    def parseResponse(cls, box: Any, protocol: Any) -> dict[str, Any]:  # noqa: N802
        """Return what was answered."""
        return _read(_fields(cls, True), box, protocol)
