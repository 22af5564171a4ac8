"""A short run of the campaign of requests to the JSON routes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.campaigns import http_fuzz


class HttpFuzzTest(SynchronousTestCase):
    def test_no_request_of_any_kind_is_a_fault(self) -> None:
        asked = http_fuzz.run(count=5, seed=1)
        self.assertEqual(len(asked), 11)
        self.assertGreaterEqual(sum(asked.values()), 60)
