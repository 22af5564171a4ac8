"""Hashes against the known answers that Tahoe-LAFS publishes, and the plain definition."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.crypto import hashing as h
from ampgrid.crypto.base32 import a2b, b2a

#: Renewal secrets that a Tahoe-LAFS 1.16 node derived: lease secret, storage index, server.
RENEWAL_SECRETS = [
    (
        "boity2cdh7jvl3ltaeebuiobbspjmbuopnwbde2yeh4k6x7jioga",
        "vrttmwlicrzbt7gh5qsooogr7u",
        "v67jiisoty6ooyxlql5fuucitqiok2ic",
        "osd6wmc5vz4g3ukg64sitmzlfiaaordutrez7oxdp5kkze7zp5zq",
    ),
    (
        "boity2cdh7jvl3ltaeebuiobbspjmbuopnwbde2yeh4k6x7jioga",
        "75gmmfts772ww4beiewc234o5e",
        "v67jiisoty6ooyxlql5fuucitqiok2ic",
        "35itmusj7qm2pfimh62snbyxp3imreofhx4djr7i2fweta75szda",
    ),
    (
        "boity2cdh7jvl3ltaeebuiobbspjmbuopnwbde2yeh4k6x7jioga",
        "75gmmfts772ww4beiewc234o5e",
        "lh5fhobkjrmkqjmkxhy3yaonoociggpz",
        "srrlruge47ws3lm53vgdxprgqb6bz7cdblnuovdgtfkqrygrjm4q",
    ),
    (
        "vacviff4xfqxsbp64tdr3frg3xnkcsuwt5jpyat2qxcm44bwu75a",
        "75gmmfts772ww4beiewc234o5e",
        "lh5fhobkjrmkqjmkxhy3yaonoociggpz",
        "b4jledjiqjqekbm2erekzqumqzblegxi23i5ojva7g7xmqqnl5pq",
    ),
]


def convergent_key(secret, k, n, segment_size, data):
    hasher = h.ConvergentKey(secret, k, n, segment_size)
    hasher.update(data)
    return hasher.digest()


class KnownAnswersTest(SynchronousTestCase):
    """The literals of Tahoe's own known-answer tests."""

    def check(self, got, expected):
        self.assertEqual(b2a(got), expected)

    def test_file_hashes(self):
        self.check(h.storage_index_hash(b""), "qb5igbhcc5esa6lwqorsy7e6am")
        self.check(h.block_hash(b""), "msjr5bh4evuh7fa3zw7uovixfbvlnstr5b65mrerwfnvjxig2jvq")
        self.check(
            h.uri_extension_hash(b""), "wthsu45q7zewac2mnivoaa4ulh5xvbzdmsbuyztq2a5fzxdrnkka"
        )
        self.check(
            h.crypttext_hasher().digest(), "itdj6e4njtkoiavlrmxkvpreosscssklunhwtvxn6ggho4rkqwga"
        )
        self.check(
            h.crypttext_segment_hash(b""), "aovy5aa7jej6ym5ikgwyoi4pxawnoj3wtaludjz7e2nb5xijb7aa"
        )

    def test_convergent_key(self):
        got = convergent_key(b"converge", 3, 10, 100, b"")
        self.check(got, "3mo6ni7xweplycin6nowynw2we")

    def test_lease_secrets(self):
        self.check(
            h.my_renewal_secret(b""), "ujhr5k5f7ypkp67jkpx6jl4p47pyta7hu5m527cpcgvkafsefm6q"
        )
        self.check(h.my_cancel_secret(b""), "rjwzmafe2duixvqy6h47f5wfrokdziry6zhx4smew4cj6iocsfaa")
        self.check(
            h.file_renewal_secret(b"", b"si"),
            "hzshk2kf33gzbd5n3a6eszkf6q6o6kixmnag25pniusyaulqjnia",
        )
        self.check(
            h.file_cancel_secret(b"", b"si"),
            "bfciwvr6w7wcavsngxzxsxxaszj72dej54n4tu2idzp6b74g255q",
        )
        self.check(
            h.bucket_renewal_secret(b"", bytes(20)),
            "e7imrzgzaoashsncacvy3oysdd2m5yvtooo4gmj4mjlopsazmvuq",
        )
        self.check(
            h.bucket_cancel_secret(b"", bytes(20)),
            "dvdujeyxeirj6uux6g7xcf4lvesk632aulwkzjar7srildvtqwma",
        )

    def test_whole_chain_of_renewal_secrets(self):
        for node_secret, storage_index, peer_id, expected in RENEWAL_SECRETS:
            client = h.my_renewal_secret(a2b(node_secret))
            file = h.file_renewal_secret(client, a2b(storage_index))
            self.check(h.bucket_renewal_secret(file, a2b(peer_id)), expected)

    def test_what_a_server_keeps_is_blake2b(self):
        """BLAKE2b-256 of nothing is a published constant."""
        self.assertEqual(
            h.lease_secret_digest(b"").hex(),
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
        )


def double(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class DefinitionTest(SynchronousTestCase):
    @given(st.binary(max_size=40), st.lists(st.binary(max_size=300), max_size=5))
    def test_streaming_gives_the_tagged_hash(self, tag, parts):
        data = b"".join(parts)
        expected = double(b"%d:" % len(tag) + tag + b"," + data)
        hasher = h.TaggedHasher(tag)
        for part in parts:
            hasher.update(memoryview(part))
        self.assertEqual(hasher.digest(), expected)
        self.assertEqual(hasher.digest(), expected)
        self.assertEqual(h.tagged_hash(tag, bytearray(data)), expected)
        self.assertEqual(h.tagged_hash(tag, data, 16), expected[:16])

    @given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
    def test_pair_hash_frames_both_values(self, tag, a, b):
        framed = b"".join(b"%d:" % len(x) + x + b"," for x in (tag, a, b))
        self.assertEqual(h.tagged_pair_hash(tag, a, b), double(framed))
        self.assertEqual(h.tagged_pair_hash(tag, a, b, 20), double(framed)[:20])

    @given(st.binary(max_size=5000))
    def test_named_hashes_keep_no_state(self, data):
        for function, tag in (
            (h.block_hash, h.TAG_BLOCK),
            (h.crypttext_segment_hash, h.TAG_CRYPTTEXT_SEGMENT),
            (h.uri_extension_hash, h.TAG_URI_EXTENSION),
        ):
            self.assertEqual(function(memoryview(data)), h.tagged_hash(tag, data))

    def test_every_parameter_changes_the_key(self):
        keys = {
            convergent_key(*arguments)
            for arguments in (
                (b"s", 3, 10, 99, b"data"),
                (b"t", 3, 10, 99, b"data"),
                (b"s", 2, 10, 99, b"data"),
                (b"s", 3, 11, 99, b"data"),
                (b"s", 3, 10, 102, b"data"),
                (b"s", 3, 10, 99, b"datb"),
            )
        }
        self.assertEqual({len(key) for key in keys}, {16})
        self.assertEqual(len(keys), 6)
