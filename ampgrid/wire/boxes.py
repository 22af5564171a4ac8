"""AMP boxes as bytes: a bounded incremental parser and a serialiser.

A box is pairs of key and value, each behind a 16-bit length, and ends with an empty key
(amp-protocol.net). Stock AMP stores whatever comes: any number of keys, of values, of answers
that nobody asked for. This parser refuses before it stores: at most `MAX_KEYS` keys and
`MAX_BOX_BYTES` bytes a box, no key twice, the routing keys first. It therefore knows a Command
before its values arrive, and drains an unknown one without keeping them.

Spec: ``docs/specs/wire.md``, "Boxes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ampgrid.errors import RemoteProtocolError

ASK = b"_ask"
ANSWER = b"_answer"
COMMAND = b"_command"
ERROR = b"_error"
ERROR_CODE = b"_error_code"
ERROR_DESCRIPTION = b"_error_description"

#: The keys that say what a box is.
ROUTING = (ASK, ANSWER, ERROR, COMMAND)

#: The most keys in one box.
MAX_KEYS = 16
#: The most bytes in one box, lengths included.
MAX_BOX_BYTES = 72 * 1024
#: The most bytes in one tag.
MAX_TAG_BYTES = 20
#: AMP's own bound on a key, bytes.
MAX_KEY_BYTES = 255
#: AMP's own bound on a value, bytes.
MAX_VALUE_BYTES = 65_535

Box = dict[bytes, bytes]

#: Pieces of a value that come together to so little are kept as one.
_PART_BYTES = 4096

_SHORTS = [number.to_bytes(2, "big") for number in range(MAX_KEY_BYTES + 1)]


def serialize(box: Mapping[bytes, bytes]) -> bytes:
    """Return the bytes of a box, its keys sorted (so the routing keys, with ``_``, come first).

    Raises:
        ValueError: a key or a value is longer than AMP can carry, or the box is larger than
            `BoxParser` takes.
    """
    if len(box) > MAX_KEYS:
        raise ValueError("a box has more keys than allowed")
    parts: list[bytes] = []
    for key in sorted(box):
        value = box[key]
        key_size, size = len(key), len(value)
        if not 0 < key_size <= MAX_KEY_BYTES or size > MAX_VALUE_BYTES:
            raise ValueError("a key or value is longer than a box can carry")
        parts += (_SHORTS[key_size], key, size.to_bytes(2, "big"), value)
    parts.append(b"\0\0")
    data = b"".join(parts)
    if len(data) > MAX_BOX_BYTES:
        raise ValueError("a box is larger than allowed")
    return data


class BoxParser:
    """Turns bytes into boxes, refusing what is out of bounds before storing it.

    A call of an unknown Command comes out with an empty name and empty values, so that it stays
    unknown even if what this end answers has changed meanwhile.

    Args:
        knows: tells whether a Command of this name would be answered; the values of an unknown
            one are drained.
        expects: tells whether an answer with this tag was asked for.
        most_bytes: the largest box taken; may be changed between boxes.
    """

    def __init__(
        self,
        knows: Callable[[bytes], bool],
        expects: Callable[[bytes], bool],
        most_bytes: int = MAX_BOX_BYTES,
    ) -> None:
        self.most_bytes = most_bytes
        self._knows = knows
        self._expects = expects
        #: Of a length, a key or a routing value that is not all here: a few hundred bytes at most.
        self._buffer = bytearray()
        self._skip = 0
        #: Of the value that is coming: what is here of it, and how many bytes are not.
        self._parts: list[bytes] = []
        self._missing = 0
        self._key: bytes | None = None
        self._start_box()

    def _start_box(self) -> None:
        self._box: Box = {}
        self._size = 2
        self._draining = False

    @property
    def buffered_bytes(self) -> int:
        """Number of bytes held for a box that is not complete."""
        return len(self._buffer) + self._size + sum(map(len, self._parts))

    def feed(self, data: bytes) -> Iterator[tuple[Box, int]]:
        """Take bytes and yield every box that they complete, with its size in bytes.

        Raises:
            RemoteProtocolError: the bytes break a bound; nothing more may be fed.
        """
        position = 0
        if self._skip:
            position = min(self._skip, len(data))
            self._skip -= position
        elif self._missing:
            position = self._fill(data)
        elif self._buffer:
            data = bytes(self._buffer) + data
        self._buffer.clear()
        end = len(data)
        try:
            while end - position >= 2:
                if self._key is None and not self._box:
                    whole = self._whole_box(data, position)
                    if whole is not None:
                        position += whole[1]
                        yield whole
                        continue
                length = (data[position] << 8) | data[position + 1]
                if self._key is None and not length:
                    position += 2
                    box, size = self._box, self._size
                    self._check_complete(box)
                    self._start_box()
                    yield box, size
                    continue
                take = self._take_key if self._key is None else self._take_value
                taken = take(data, position + 2, length)
                if not taken:
                    break
                position += taken
        finally:
            self._buffer += data[position:]

    def _fill(self, data: bytes) -> int:
        """Take what belongs to the value that is coming; return how many bytes that is."""
        taken = min(self._missing, len(data))
        self._missing -= taken
        if not self._missing:
            with memoryview(data) as view:
                value = b"".join((*self._parts, view[:taken]))
            self._parts.clear()
            assert self._key is not None
            self._note_value(self._key, value, len(value))
        elif len(self._parts[-1]) + taken <= _PART_BYTES:
            # However little comes at a time, it takes no more room than it is long.
            self._parts[-1] += data
        else:
            self._parts.append(data)
        return taken

    def _whole_box(self, data: bytes, start: int) -> tuple[Box, int] | None:
        """Return a box that is here whole and breaks no bound, and its size.

        Of anything else, None: that is for the careful way, byte by byte.
        """
        box: Box = {}
        at, end = start, len(data)
        while at + 2 <= end:
            length = (data[at] << 8) | data[at + 1]
            at += 2
            if not length:
                fits = at - start <= self.most_bytes and self._is_routed(box)
                return (box, at - start) if fits else None
            middle = at + length
            if length > MAX_KEY_BYTES or len(box) == MAX_KEYS or middle + 2 > end:
                return None
            key = data[at:middle]
            at = middle + 2 + ((data[middle] << 8) | data[middle + 1])
            if at > end or key in box:
                return None
            box[key] = data[middle + 2 : at]
        return None

    def _is_routed(self, box: Box) -> bool:
        """Tell whether a box is a call of a known Command, or an answer that was asked for."""
        keys = iter(box)
        first = next(keys, None)
        if first == ASK:
            if next(keys, None) != COMMAND or ANSWER in box or ERROR in box:
                return False
            name = box[COMMAND]
            return (
                0 < len(box[ASK]) <= MAX_TAG_BYTES
                and len(name) <= MAX_KEY_BYTES
                and self._knows(name)
            )
        if first not in (ANSWER, ERROR) or COMMAND in box or ASK in box:
            return False
        tag = box[first]
        others = ANSWER in box and ERROR in box
        return not others and 0 < len(tag) <= MAX_TAG_BYTES and self._expects(tag)

    def _grow(self, size: int) -> None:
        if self._size + size > self.most_bytes:
            raise RemoteProtocolError("a box is larger than allowed")

    def _take_key(self, data: bytes, start: int, length: int) -> int:
        if length > MAX_KEY_BYTES:
            raise RemoteProtocolError("a key is longer than allowed")
        self._grow(length + 4)
        if len(data) < start + length:
            return 0
        key = data[start : start + length]
        if key in self._box or len(self._box) == MAX_KEYS:
            raise RemoteProtocolError("a box has a key twice, or too many keys")
        if not self._box:
            if key not in (ASK, ANSWER, ERROR):
                raise RemoteProtocolError("a box does not begin with its tag")
        elif len(self._box) == 1 and ASK in self._box and key != COMMAND:
            raise RemoteProtocolError("a call does not name its Command")
        self._size += length + 4
        self._key = key
        return 2 + length

    def _take_value(self, data: bytes, start: int, length: int) -> int:
        key = self._key
        assert key is not None
        self._grow(length)
        if key in ROUTING and length > MAX_KEY_BYTES:
            raise RemoteProtocolError("a tag or a Command's name is longer than allowed")
        if self._draining and key not in ROUTING:
            self._note_value(key, b"", length)
            here = min(length, len(data) - start)
            self._skip = length - here
            return 2 + here
        value = data[start : start + length]
        if len(value) < length:
            if key in ROUTING:
                return 0
            self._parts, self._missing = [value], length - len(value)
            return 2 + len(value)
        if key in ROUTING:
            value = self._check_routing(key, value)
        self._note_value(key, value, length)
        return 2 + length

    def _note_value(self, key: bytes, value: bytes, length: int) -> None:
        self._box[key] = value
        self._size += length
        self._key = None

    def _check_routing(self, key: bytes, value: bytes) -> bytes:
        if key == COMMAND:
            if ASK not in self._box:
                raise RemoteProtocolError("an answer names a Command")
            if self._knows(value):
                return value
            self._draining = True
            return b""
        if self._box:
            raise RemoteProtocolError("a box has two tags")
        if not 0 < len(value) <= MAX_TAG_BYTES:
            raise RemoteProtocolError("a tag is out of bounds")
        if key != ASK and not self._expects(value):
            raise RemoteProtocolError("an answer that was never asked for")
        return value

    def _check_complete(self, box: Box) -> None:
        if not box or (ASK in box and COMMAND not in box):
            raise RemoteProtocolError("a box without a tag or a Command")
