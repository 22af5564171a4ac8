"""Calls out of XML, and values into XML.

The XML of a stranger is read by expat, the values by the standard library's unmarshaller. What
XML can do beside (document types, and with them entities; elements of other vocabularies;
endless nesting) is refused when it is met, so that nothing is ever expanded.

Integers beyond 32 bits are written as ``i8``, and nothing as ``nil``: the two extensions that
XML-RPC libraries have in common.

Source: http://xmlrpc.com/spec.md; Python's ``xmlrpc.client``.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape
from xmlrpc.client import Error as XmlRpcError
from xmlrpc.client import Unmarshaller

from attrs import frozen

from ampgrid.immutable import Uploadable
from ampgrid.web.xmlrpc.faults import NOT_A_CALL, NOT_WELL_FORMED, CallError, Fault

MOST_DEPTH = 32
MOST_ELEMENTS = 20_000
_PIECE_BYTES = 64 * 1024
#: All that is in a call.
ELEMENTS = frozenset(
    {"methodCall", "methodName", "params", "param", "value", "string", "int", "i4", "i8"}
    | {"boolean", "double", "base64", "dateTime.iso8601", "nil"}
    | {"array", "data", "struct", "member", "name"}
)
#: What no XML 1.0 can hold.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

HEAD = "<?xml version='1.0' encoding='utf-8'?>\n<methodResponse>\n"
BEGIN = f"{HEAD}<params><param><value>"
END = "</value></param></params>\n</methodResponse>\n"


@frozen
class MethodCall:
    """A call.

    Attributes:
        name: of the method.
        params: strings, numbers, bytes, lists and dicts, as they came.
    """

    name: str
    params: tuple[Any, ...]


class _Reader:
    """Feeds an unmarshaller with what may be in a call."""

    def __init__(self) -> None:
        self.values = Unmarshaller(use_builtin_types=True)
        # Expat has decoded the text already.
        self.values.xml(None, None)  # type: ignore[arg-type]
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self.values.data
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.ProcessingInstructionHandler = self._refuse
        self._depth = 0
        self._elements = 0

    def feed(self, data: bytes, *, last: bool) -> None:
        self._parser.Parse(data, last)

    def _refuse(self, *_: Any) -> None:
        raise CallError(NOT_WELL_FORMED, "no document type and no instruction is taken here")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if name not in ELEMENTS:
            raise CallError(NOT_A_CALL, "there is an element that no call holds")
        if self._depth > MOST_DEPTH or self._elements > MOST_ELEMENTS:
            raise CallError(NOT_A_CALL, "the call holds too many values")
        self.values.start(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        self.values.end(name)


def read_call(source: Uploadable) -> MethodCall:
    """Read the body of a call.

    Raises:
        CallError: it is no call.
    """
    reader = _Reader()
    size = source.get_size()
    try:
        for start in range(0, size, _PIECE_BYTES):
            reader.feed(source.read_at(start, min(_PIECE_BYTES, size - start)), last=False)
        reader.feed(b"", last=True)
        params = reader.values.close()
    except expat.ExpatError:
        raise CallError(NOT_WELL_FORMED, "the body is no well-formed XML") from None
    except (ValueError, LookupError, TypeError, AttributeError, XmlRpcError):
        # What the unmarshaller raises depends on where values and elements do not fit.
        raise CallError(NOT_A_CALL, "the body is no method call") from None
    name = reader.values.getmethodname()
    if not name:
        raise CallError(NOT_A_CALL, "the call names no method")
    return MethodCall(name, tuple(params))


def text_xml(value: str) -> str:
    """Return text as it stands in XML; what XML cannot hold becomes U+FFFD."""
    return escape(_NO_XML.sub("\ufffd", value)).replace("\r", "&#13;")


def base64_xml(data: bytes) -> str:
    """Return bytes as a value."""
    return f"<base64>{b64encode(data).decode('ascii')}</base64>"


def value_xml(value: Any) -> str:
    """Return a value: what JSON knows, and bytes.

    >>> value_xml({"a": 2**40})
    '<struct><member><name>a</name><value><i8>1099511627776</i8></value></member></struct>'
    """
    if value is None:
        return "<nil/>"
    if isinstance(value, bool):
        return f"<boolean>{int(value)}</boolean>"
    if isinstance(value, int):
        kind = "int" if -(2**31) <= value < 2**31 else "i8"
        return f"<{kind}>{value}</{kind}>"
    if isinstance(value, float):
        return f"<double>{value!r}</double>"
    if isinstance(value, str):
        return f"<string>{text_xml(value)}</string>"
    if isinstance(value, bytes):
        return base64_xml(value)
    if isinstance(value, dict):
        return f"<struct>{''.join(member_xml(k, each) for k, each in value.items())}</struct>"
    return f"<array><data>{''.join(map(item_xml, value))}</data></array>"


def item_xml(value: Any) -> str:
    """Return a value of an array."""
    return f"<value>{value_xml(value)}</value>"


def member_xml(name: str, value: Any) -> str:
    """Return a member of a struct."""
    return f"<member><name>{text_xml(name)}</name>{item_xml(value)}</member>"


def fault_xml(fault: Fault) -> str:
    """Return a whole answer that tells of a fault."""
    told = {"faultCode": fault.code, "faultString": fault.message}
    return f"{HEAD}<fault>{item_xml(told)}</fault>\n</methodResponse>\n"


def answer_xml(value: Any) -> str:
    """Return a whole answer."""
    return f"{BEGIN}{value_xml(value)}{END}"
