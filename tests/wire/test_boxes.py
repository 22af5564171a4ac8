"""Boxes: the same bytes as stock AMP, and a parser that refuses before it stores."""

from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.errors import RemoteProtocolError
from ampgrid.wire import boxes
from ampgrid.wire.boxes import BoxParser, serialize

KNOWN = b"Known"


def parser(most: int = boxes.MAX_BOX_BYTES) -> BoxParser:
    return BoxParser(lambda name: name == KNOWN, lambda tag: tag == b"a1", most)


def parse(data: bytes, made: BoxParser | None = None) -> list[dict[bytes, bytes]]:
    return [box for box, _size in (made or parser()).feed(data)]


def pair(key: bytes, value: bytes) -> bytes:
    return len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value


def stock_parse(data: bytes) -> list[dict[bytes, bytes]]:
    received: list[dict[bytes, bytes]] = []

    class Receiver:
        def startReceivingBoxes(self, sender: object) -> None:
            pass

        def ampBoxReceived(self, box: dict[bytes, bytes]) -> None:
            received.append(dict(box))

    protocol = amp.BinaryBoxProtocol(Receiver())
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(data)
    return received


argument_names = st.binary(min_size=1, max_size=255).filter(lambda key: b"a" <= key[:1] <= b"z")
arguments = st.dictionaries(argument_names, st.binary(max_size=300), max_size=14)
tags = st.binary(min_size=1, max_size=boxes.MAX_TAG_BYTES)
calls = st.builds(
    lambda tag, rest: {boxes.ASK: tag, boxes.COMMAND: KNOWN, **rest}, tags, arguments
)
answers = st.builds(lambda rest: {boxes.ANSWER: b"a1", **rest}, arguments)
errors = st.builds(
    lambda code, text: {
        boxes.ERROR: b"a1",
        boxes.ERROR_CODE: code,
        boxes.ERROR_DESCRIPTION: text,
    },
    st.binary(max_size=100),
    st.binary(max_size=1000),
)
legal_boxes = st.one_of(calls, answers, errors)


class GoldenTest(SynchronousTestCase):
    """Byte for byte what Twisted's AMP writes and reads."""

    golden = (
        b"\0\x04_ask\0\x0223\0\x08_command\0\x05Known\0\x04data\0\x02hi\0\x05empty\0\0\0\0",
        {b"_ask": b"23", b"_command": b"Known", b"data": b"hi", b"empty": b""},
    )

    def test_golden_bytes(self) -> None:
        data, box = self.golden
        self.assertEqual(serialize(box), data)
        self.assertEqual(amp.Box(box).serialize(), data)
        self.assertEqual(parse(data), [box])
        self.assertEqual(stock_parse(data), [box])

    @settings(deadline=None)
    @given(st.lists(legal_boxes, min_size=1, max_size=3))
    def test_stock_amp_reads_ours_and_we_read_its(self, many: list[dict[bytes, bytes]]) -> None:
        ours = b"".join(serialize(box) for box in many)
        stock = b"".join(amp.Box(box).serialize() for box in many)
        self.assertEqual(ours, stock)
        self.assertEqual(parse(stock), many)
        self.assertEqual(stock_parse(ours), many)

    def test_values_and_keys_of_the_largest_size(self) -> None:
        box = {boxes.ASK: b"1", boxes.COMMAND: KNOWN, b"k" * 255: b"v" * 65_535}
        self.assertEqual(parse(serialize(box)), [box])
        self.assertEqual(stock_parse(serialize(box)), [box])

    def test_the_size_of_a_box_is_the_number_of_its_bytes(self) -> None:
        box = {boxes.ASK: b"1", boxes.COMMAND: KNOWN, b"data": b"12345"}
        unknown = {**box, boxes.COMMAND: b"Strange"}
        for each in (box, unknown):
            data = serialize(each)
            self.assertEqual([size for _box, size in parser().feed(data * 2)], [len(data)] * 2)


class SplitTest(SynchronousTestCase):
    """How the bytes arrive makes no difference."""

    stream = b"".join(
        serialize(box)
        for box in (
            {boxes.ASK: b"1", boxes.COMMAND: KNOWN, b"data": b"x" * 40, b"z": b""},
            {boxes.ASK: b"2", boxes.COMMAND: b"Unknown", b"data": b"y" * 40},
            {boxes.ANSWER: b"a1", b"data": b"w" * 20},
        )
    )

    def test_every_split_in_two(self) -> None:
        whole = parse(self.stream)
        for at in range(len(self.stream) + 1):
            made = parser()
            got = parse(self.stream[:at], made) + parse(self.stream[at:], made)
            self.assertEqual(got, whole, at)

    def test_byte_for_byte(self) -> None:
        made = parser()
        got = [box for at in self.stream for box in parse(bytes([at]), made)]
        self.assertEqual(got, parse(self.stream))

    @settings(deadline=None)
    @given(st.lists(st.integers(0, len(stream)), max_size=12))
    def test_any_pieces(self, cuts: list[int]) -> None:
        made = parser()
        places = [0, *sorted(cuts), len(self.stream)]
        got = [
            box
            for start, end in itertools.pairwise(places)
            for box in parse(self.stream[start:end], made)
        ]
        self.assertEqual(got, parse(self.stream))


class BoundsTest(SynchronousTestCase):
    """Everything that stock AMP would store is refused here."""

    ask = pair(boxes.ASK, b"1") + pair(boxes.COMMAND, KNOWN)

    def refused(self, data: bytes, made: BoxParser | None = None) -> BoxParser:
        made = made or parser()
        with self.assertRaises(RemoteProtocolError):
            parse(data, made)
        return made

    def test_sixteen_keys_and_not_seventeen(self) -> None:
        keys = [pair(b"k%d" % number, b"") for number in range(15)]
        self.assertEqual(len(parse(self.ask + b"".join(keys[:14]) + b"\0\0")[0]), 16)
        # Refused at the key, before any value of it.
        self.refused(self.ask + b"".join(keys)[:-2])

    def test_seventeen_keys_of_an_unknown_command(self) -> None:
        ask = pair(boxes.ASK, b"1") + pair(boxes.COMMAND, b"Unknown")
        self.refused(ask + b"".join(pair(b"k%d" % number, b"") for number in range(15)))

    def test_one_byte_more_than_the_largest_box(self) -> None:
        for command in (KNOWN, b"Unknown"):
            start = pair(boxes.ASK, b"1") + pair(boxes.COMMAND, command) + pair(b"a", bytes(65535))
            room = boxes.MAX_BOX_BYTES - len(start) - 2
            fits = start + pair(b"b", bytes(room - 5)) + b"\0\0"
            self.assertEqual(len(fits), boxes.MAX_BOX_BYTES)
            self.assertEqual(len(parse(fits)), 1)
            # Refused at the length already, before one byte of the value.
            self.refused(start + b"\0\1b" + (room - 4).to_bytes(2, "big"))

    def test_a_smaller_bound_may_be_set(self) -> None:
        data = serialize({boxes.ASK: b"1", boxes.COMMAND: KNOWN, b"data": bytes(100)})
        self.assertEqual(len(parse(data, parser(len(data)))), 1)
        self.refused(data, parser(len(data) - 1))

    def test_a_key_twice(self) -> None:
        self.refused(self.ask + pair(b"data", b"1") + pair(b"data", b"2"))
        self.refused(self.ask + pair(boxes.COMMAND, KNOWN))
        unknown = pair(boxes.ASK, b"1") + pair(boxes.COMMAND, b"Unknown")
        self.refused(unknown + pair(b"data", b"1") + pair(b"data", b"2"))

    def test_the_first_key_is_a_tag(self) -> None:
        for first in (b"data", boxes.COMMAND, boxes.ERROR_CODE, b"_other", b"Data"):
            self.refused(pair(first, b"1"))

    def test_the_second_key_of_a_call_is_its_command(self) -> None:
        self.refused(pair(boxes.ASK, b"1") + pair(b"data", b""))
        self.refused(pair(boxes.ASK, b"1") + pair(boxes.ANSWER, b"a1"))

    def test_two_tags(self) -> None:
        self.refused(self.ask + pair(boxes.ANSWER, b"a1"))
        self.refused(pair(boxes.ANSWER, b"a1") + pair(boxes.ASK, b"1"))
        self.refused(pair(boxes.ANSWER, b"a1") + pair(boxes.ERROR, b"a1"))
        unknown = pair(boxes.ASK, b"1") + pair(boxes.COMMAND, b"Unknown")
        self.refused(unknown + pair(boxes.ANSWER, b"a1"))

    def test_an_answer_that_names_a_command(self) -> None:
        for name in (KNOWN, b"Unknown"):
            self.refused(pair(boxes.ANSWER, b"a1") + pair(boxes.COMMAND, name))

    def test_answers_that_nobody_asked_for(self) -> None:
        for key in (boxes.ANSWER, boxes.ERROR):
            self.assertEqual(len(parse(pair(key, b"a1") + b"\0\0")), 1)
            self.refused(pair(key, b"a2"))

    def test_tags_out_of_bounds(self) -> None:
        self.refused(pair(boxes.ASK, b""))
        self.refused(pair(boxes.ASK, b"1" * (boxes.MAX_TAG_BYTES + 1)))
        self.assertEqual(
            len(parse(pair(boxes.ASK, b"1" * 20) + pair(boxes.COMMAND, KNOWN) + b"\0\0")), 1
        )

    def test_long_names_are_refused_at_their_length(self) -> None:
        self.refused(b"\0\4_ask" + (256).to_bytes(2, "big"))
        self.refused(pair(boxes.ASK, b"1") + b"\0\x08_command" + (256).to_bytes(2, "big"))

    def test_long_keys_are_refused_at_their_length(self) -> None:
        self.refused(b"\1\0")
        self.refused(self.ask + b"\xff\xff")

    def test_empty_boxes(self) -> None:
        self.refused(b"\0\0")
        self.refused(pair(boxes.ASK, b"1") + b"\0\0")

    def test_an_unknown_command_is_not_kept(self) -> None:
        made = parser()
        start = pair(boxes.ASK, b"7") + pair(boxes.COMMAND, b"Unknown") + b"\0\1a\xff\xff"
        self.assertEqual(parse(start + bytes(30_000), made), [])
        self.assertEqual(len(made._buffer), 0)
        self.assertEqual(parse(bytes(35_535) + pair(b"b", b"kept?"), made), [])
        expected = {boxes.ASK: b"7", boxes.COMMAND: b"", b"a": b"", b"b": b""}
        self.assertEqual(parse(b"\0\0", made), [expected])

    def test_an_unknown_command_stays_unknown(self) -> None:
        """Also when what is answered changes before the box is complete."""
        known: set[bytes] = set()
        made = BoxParser(known.__contains__, lambda tag: False)
        data = serialize({boxes.ASK: b"1", boxes.COMMAND: KNOWN, b"data": b"secret"})
        parse(data[:-10], made)
        known.add(KNOWN)
        self.assertEqual(parse(data[-10:], made)[0][boxes.COMMAND], b"")

    def test_what_cannot_be_read_cannot_be_written(self) -> None:
        for box in (
            {b"k" * 256: b""},
            {b"": b""},
            {b"k": bytes(65_536)},
            {b"k%d" % number: b"" for number in range(17)},
            {b"a": bytes(65_535), b"b": bytes(10_000)},
        ):
            with self.assertRaises(ValueError):
                serialize(box)


class ArbitraryBytesTest(SynchronousTestCase):
    """Nothing but `RemoteProtocolError` comes out, and what is held stays bounded."""

    pieces = st.one_of(
        st.binary(max_size=50),
        st.builds(pair, st.sampled_from([b"_ask", b"_answer", b"a", b"b"]), st.binary(max_size=9)),
        st.just(pair(boxes.ASK, b"1") + pair(boxes.COMMAND, KNOWN)),
        st.just(pair(boxes.ASK, b"1") + pair(boxes.COMMAND, b"Unknown")),
        st.just(b"\0\1a\xff\xff" + bytes(3_000)),
        st.just(b"\0\0"),
    )

    @settings(deadline=None, max_examples=300)
    @given(st.lists(pieces, max_size=40), st.integers(64, 5_000))
    @example([pair(boxes.ASK, b"1") + pair(boxes.COMMAND, b"Unknown"), b"\0\1a\xff\xff"], 70)
    def test_arbitrary_bytes(self, pieces: list[bytes], most: int) -> None:
        made = parser(most)
        for piece in pieces:
            try:
                for box, size in made.feed(piece):
                    self.assertLessEqual(size, most)
                    self.assertLessEqual(sum(map(len, box.values())), most)
            except RemoteProtocolError:
                return
            held = sum(len(key) + len(value) for key, value in made._box.items())
            self.assertLessEqual(len(made._buffer) + held, most + len(piece))


keys = st.sampled_from(
    [boxes.ASK, boxes.ANSWER, boxes.ERROR, boxes.COMMAND, boxes.ERROR_CODE, b"a", b"b", b"k" * 256]
)
values = st.sampled_from([KNOWN, b"Other", b"a1", b"t", b"", b"v" * 21, b"w" * 256, b"x" * 400])
wild_boxes = st.lists(st.tuples(keys, values), max_size=18).map(
    lambda pairs: b"".join(pair(key, value) for key, value in pairs) + b"\0\0"
)


class TwoWaysTest(SynchronousTestCase):
    """A box that comes whole is read in one go; that must make no difference."""

    def outcome(self, pieces: list[bytes], most: int) -> tuple[list[object], str]:
        made = parser(most)
        found: list[object] = []
        try:
            for piece in pieces:
                # One by one: those before what breaks a bound were given out.
                for box, size in made.feed(piece):
                    found.append((list(box.items()), size))
        except RemoteProtocolError as error:
            return found, str(error)
        return found, ""

    @given(st.lists(wild_boxes, max_size=3), st.sampled_from([100, 700, boxes.MAX_BOX_BYTES]))
    def test_wild_boxes(self, many: list[bytes], most: int) -> None:
        data = b"".join(many)
        whole = self.outcome([data], most)
        self.assertEqual(whole, self.outcome([bytes([byte]) for byte in data], most))

    @given(st.lists(calls | answers | errors, max_size=3), st.integers(0, 3_000))
    def test_good_boxes(self, many: list[dict[bytes, bytes]], cut: int) -> None:
        data = b"".join(serialize(box) for box in many)
        whole = self.outcome([data], boxes.MAX_BOX_BYTES)
        self.assertEqual(whole[1], "")
        self.assertEqual(len(whole[0]), len(many))
        self.assertEqual(whole, self.outcome([data[:cut], data[cut:]], boxes.MAX_BOX_BYTES))
