"""What the catalogue of attacks shares: a directory that has to stay as it is."""

from __future__ import annotations

import re

from tests.unit.web.kit import Client, GatewayCase

EVIL = "http://evil.example"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}


def of_site(site: str, mode: str, dest: str, **more: str) -> dict[str, str]:
    """Return the headers that a browser adds."""
    told = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    return {**BROWSER, **told, **more}


class AttackCase(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.put(f"{self.url}/victim", b"precious")
        self.token = self.gateway.tokens.form

    def tearDown(self) -> None:
        listing = self.get(f"{self.url}?t=json").json[1]["children"]
        self.assertEqual(list(listing), ["victim"])
        self.assertEqual(self.get(f"{self.url}/victim").body, b"precious")
        self.assertEqual(self.gateway.spool.used, 0)
        self.assertEqual(self.gateway.jobs.running(), [])

    def raw(self, data: bytes, *, seconds: float = 1) -> Client:
        """Send bytes, and look after a while; the connection is closed in the end."""
        client = self.connect()
        client.transport.write(data)
        self.grid.clock.advance(seconds)
        self.addCleanup(self.close, client)
        return client

    def close(self, client: Client) -> None:
        if not client.lost:
            client.transport.abortConnection()
            self.grid.clock.advance(1)

    def statuses(self, client: Client) -> list[int]:
        return [
            int(each) for each in re.findall(rb"^HTTP/1\.1 (\d+)", client.received, re.MULTILINE)
        ]

    def refused(self, data: bytes, *allowed: int) -> None:
        """Check that nothing but a refusal comes back: one answer of these statuses, or none."""
        statuses = self.statuses(self.raw(data))
        self.assertLessEqual(len(statuses), 1, data[:200])
        self.assertLessEqual(set(statuses), set(allowed or (400,)), data[:200])

    def changes(self, headers: dict[str, str], status: int = 403) -> None:
        """Check that no request that changes something gets through with these headers."""
        for method, where in (
            ("PUT", f"{self.url}/evil"),
            ("PUT", f"{self.url}/evil?t=mkdir"),
            ("PUT", "/uri"),
            ("DELETE", f"{self.url}/victim"),
            ("POST", f"{self.url}?t=mkdir&name=evil"),
            ("POST", f"{self.url}?t=delete&name=victim"),
            ("POST", "/xmlrpc"),
        ):
            self.assert_status(self.ask(method, where, b"x", headers), status)
