"""amp:// addresses."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import BadAddressError
from ampgrid.formats.address import Address, format_hint, parse_address, parse_hint

NODE = "a" * 32
SECRET = b2a(bytes(range(16)))

hosts = st.one_of(
    st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,6}){1,2}\Z"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
hints = st.tuples(hosts, st.integers(1, 65535))
addresses = st.builds(
    Address,
    st.binary(min_size=20, max_size=20),
    st.lists(hints, min_size=1, max_size=16, unique=True).map(tuple),
    st.none() | st.binary(min_size=16, max_size=16),
)


class AddressTest(SynchronousTestCase):
    @given(addresses)
    def test_round_trip(self, address):
        text = address.to_string()
        self.assertEqual(parse_address(text), address)
        self.assertEqual(parse_address(f" {text}\n"), address)
        public = parse_address(address.to_string(with_secret=False))
        self.assertEqual((public.node_id, public.hints), (address.node_id, address.hints))
        self.assertIsNone(public.secret)

    def test_repr_hides_the_secret(self):
        address = parse_address(f"amp://{NODE}@h:1/{SECRET}")
        self.assertEqual(repr(address), f"<Address amp://{NODE}@h:1/(secret)>")
        self.assertEqual(str(address), repr(address))
        self.assertEqual(repr(parse_address(f"amp://{NODE}@h:1")), f"<Address amp://{NODE}@h:1>")

    def test_spelling(self):
        text = f"amp://{NODE}@grid.example:7070,[2001:db8::1]:80,192.0.2.1:1/{SECRET}"
        address = parse_address(text)
        self.assertEqual(
            address.hints, (("grid.example", 7070), ("2001:db8::1", 80), ("192.0.2.1", 1))
        )
        self.assertEqual(address.secret, bytes(range(16)))
        self.assertEqual(address.to_string(), text)

    def test_hosts_get_one_spelling(self):
        self.assertEqual(parse_hint("Grid.Example:1"), ("grid.example", 1))
        self.assertEqual(parse_hint("[2001:DB8:0::1]:1"), ("2001:db8::1", 1))
        self.assertEqual(parse_hint("localhost:65535"), ("localhost", 65535))
        self.assertEqual(format_hint(("::1", 5)), "[::1]:5")

    def test_port_zero_only_to_listen(self):
        self.assertRaises(BadAddressError, parse_hint, "h:0")
        self.assertEqual(parse_hint("h:0", port_zero=True), ("h", 0))

    def test_malformed_hints(self):
        for text in (
            "", ":", "h", "h:", ":1", "h:01", "h:65536", "h:-1", "h:+1", "h: 1", "h:1 ", "h:٣",
            "::1:5", "[::1]", "[::1]5", "[::1:5", "[fe80::1%eth0]:5", "[1.2.3.4]:5", "[h]:5",
            "1.2.3:5", "1.2.3.04:5", "256.1.1.1:5", "-h:5", "h-:5", "a..b:5", ".a:5", "a.:5",
            "h/x:5", "h@x:5", "hö:5", "a b:5", f"{'a' * 64}:5", f"{'a.' * 130}b:5", "\u212a.x:5",
        ):  # fmt: skip
            with self.subTest(text):
                self.assertRaises(BadAddressError, parse_hint, text)

    def test_malformed_addresses(self):
        good = f"amp://{NODE}@h:1/{SECRET}"
        parse_address(good)
        for text in (
            "", "amp://", NODE, f"http://{NODE}@h:1", f"AMP://{NODE}@h:1", f"amp://{NODE}",
            f"amp://{NODE}@", f"amp://{NODE[1:]}@h:1", f"amp://{NODE.upper()}@h:1",
            f"amp://{NODE}@h:1,", f"amp://{NODE}@,h:1", f"amp://{NODE}@h:1,h:1",
            f"amp://{NODE}@h:1/", f"{good}/", f"{good}a", good[:-1], good[:-1] + "z",
            f"amp://{NODE}@h:1?x", f"amp://{NODE}@{','.join(f'h:{i}' for i in range(1, 18))}",
            good + "," * 5000,
        ):  # fmt: skip
            with self.subTest(text[:80]):
                error = self.assertRaises(BadAddressError, parse_address, text)
                self.assertNotIn(SECRET[:8], str(error))

    @given(
        st.text(max_size=100),
        st.sampled_from(["", "amp://", f"amp://{NODE}@", f"amp://{NODE}@h:1/"]),
    )
    def test_arbitrary_text_raises_nothing_else(self, text, start):
        try:
            address = parse_address(start + text)
        except BadAddressError:
            return
        self.assertEqual(parse_address(address.to_string()), address)
