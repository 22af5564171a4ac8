"""XML-RPC: the standard library's client speaks to it, and hostile calls end in a fault."""

from __future__ import annotations

import os
import re
import tempfile
import xmlrpc.client
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.immutable import Data
from ampgrid.node.faults import UnforeseenError
from ampgrid.web import outflow
from ampgrid.web.localfiles import LocalFiles
from ampgrid.web.tokens import HEADER
from ampgrid.web.xmlrpc import envelope, methods, section
from ampgrid.web.xmlrpc.faults import FAULTS, CallError
from tests.material import some_bytes
from tests.unit.web.kit import OWN_PAGE, GatewayCase, Reply, read_reply, request_bytes

XML = {"Content-Type": "text/xml"}
EMPTY = "<?xml version='1.0'?><methodCall><methodName>{}</methodName></methodCall>"


class XmlRpcCase(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.data = some_bytes(70_000)

    def send(self, body: bytes | str, **headers: str) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/xmlrpc", data, {**XML, **told})

    def call(self, name: str, *params: Any, **headers: str) -> Any:
        body = xmlrpc.client.dumps(params, name)
        reply = self.assert_status(self.send(body, **headers), 200)
        self.assertEqual(reply.headers["Content-Type"], "text/xml; charset=utf-8")
        ((value,), _) = xmlrpc.client.loads(reply.body, use_builtin_types=True)
        return value

    def fault(self, code: int, name: str, *params: Any, **headers: str) -> str:
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            self.call(name, *params, **headers)
        self.assertEqual(caught.exception.faultCode, code, caught.exception.faultString)
        return str(caught.exception.faultString)

    def fault_of_body(self, body: bytes | str) -> int:
        reply = self.assert_status(self.send(body), 200)
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(reply.body)
        return caught.exception.faultCode


class MethodTest(XmlRpcCase):
    def test_put_and_get(self) -> None:
        for size in (0, 1, 55, 56, 70_000, 300_000):
            data = some_bytes(size)
            cap = self.call("put", self.root, "a/b/c", data)
            self.assertEqual(self.call("get", self.root, "/a/b/c"), data)
            self.assertEqual(self.call("get", cap, ""), data)
            self.assertEqual(self.get(f"{self.url}/a/b/c").body, data)
        self.call("put", self.root, "text", "\u00fc<&>")
        self.assertEqual(self.call("get", self.root, "text"), "\u00fc<&>".encode())

    def test_put_and_get_on_the_drives(self) -> None:
        for drive in ("global", "private"):
            self.call("put", drive, "xmlrpc/file", self.data)
            self.assertEqual(self.call("get", drive, "xmlrpc/file"), self.data)

    def test_overwrite(self) -> None:
        self.call("put", self.root, "a", b"1")
        self.fault(409, "put", self.root, "a", b"2", False)
        self.call("put", self.root, "a", b"3", True)
        self.assertEqual(self.call("get", self.root, "a"), b"3")

    def test_listdir(self) -> None:
        names = ["a", "b c", "<&>\"'", "\u00fc", "\U0001f600", "%2F"]
        for name in names:
            self.call("put", self.root, name, self.data)
        sub = self.call("mkdir", self.root, "sub")
        told = self.call("listdir", self.root, "")
        self.assertEqual(sorted(told), sorted([*names, "sub"]))
        self.assertEqual(told, self.get(f"{self.url}?t=json").json[1]["children"])
        self.assertEqual(told["sub"][1]["rw_uri"], sub)
        self.assertEqual(self.call("listdir", self.root, "sub"), {})

    def test_mkdir(self) -> None:
        cap = self.call("mkdir", self.root, "a/b")
        self.assertEqual(self.call("mkdir", self.root, "a/b/"), cap)
        self.assertEqual(self.call("get_uri", self.root, "a/b"), cap)
        self.assertTrue(self.call("get_readonly_uri", self.root, "a").startswith("URI:DIR-RO:"))
        self.assertEqual(self.call("mkdir", self.root, ""), self.root)
        self.assertTrue(self.call("mkdir_unlinked").startswith("URI:DIR:"))

    def test_put_uri_by_a_call(self) -> None:
        cap = self.call("put_unlinked", self.data)
        self.assertEqual(self.call("put_uri", self.root, "x/y", cap), cap)
        self.assertEqual(self.call("get", self.root, "x/y"), self.data)
        self.fault(409, "put_uri", self.root, "x/y", cap, False)
        self.fault(400, "put_uri", self.root, "z", "no cap")

    def test_delete_and_rename(self) -> None:
        cap = self.call("put", self.root, "a", b"1")
        self.call("put", self.root, "b", b"2")
        self.fault(409, "rename", self.root, "", "a", "b", False)
        self.assertIs(self.call("rename", self.root, "", "a", "b"), True)
        self.assertEqual(self.call("delete", self.root, "b"), cap)
        self.assertEqual(self.call("listdir", self.root, ""), {})
        self.fault(404, "delete", self.root, "b")
        self.fault(400, "rename", self.root, "", "a", "b/c")

    def test_check_and_manifest(self) -> None:
        cap = self.call("put", self.root, "sub/file", self.data)
        told = self.call("check", self.root, "sub/file")
        self.assertEqual((told["type"], told["healthy"]), ("file", True))
        self.assertTrue(self.call("check", cap, "", {"verify": True, "repair": True})["healthy"])
        sub = self.call("get_uri", self.root, "sub")
        expected = [["", self.root], ["sub", sub], ["sub/file", cap]]
        self.assertEqual(sorted(self.call("manifest", self.root, "")), expected)
        self.assertEqual(self.call("stat", self.root, "sub/file")[1]["size"], 70_000)

    def test_a_deep_check_by_its_handle(self) -> None:
        self.call("put", self.root, "sub/file", self.data)
        handle = self.call("start_deep_check", self.root, "", {"add_lease": True})
        while self.call("operation", handle)["state"] == "running":
            self.grid.clock.advance(0.1)
        told = self.call("operation", handle)
        self.assertEqual(told["state"], "done")
        self.assertEqual(self.call("cancel", handle), "done")
        self.fault(404, "operation", "none")

    def test_what_cannot_be(self) -> None:
        self.call("put", self.root, "file", self.data)
        self.fault(404, "get", self.root, "none")
        self.fault(404, "listdir", "none", "")
        self.fault(400, "listdir", self.root, "file")
        self.fault(400, "get", self.root, "")
        self.fault(400, "get", "URI:nonsense", "")
        self.fault(400, "put", self.root, "a/../b", b"")
        read_only = self.call("get_readonly_uri", self.root, "")
        self.fault(403, "put", read_only, "new", b"")

    def test_a_file_that_is_too_large_for_a_call(self) -> None:
        self.patch(methods, "MOST_CONTENTS", 69_999)
        cap = self.call("put_unlinked", self.data)
        self.assertIn("get_localfile", self.fault(413, "get", cap, ""))

    def test_parameters(self) -> None:
        self.fault(-32602, "get")
        self.fault(-32602, "get", "private", "a", "b")
        self.fault(-32602, "get", "private", 1)
        self.fault(-32602, "put", self.root, "a", [1])
        self.fault(-32602, "put", self.root, "a", b"", 1)
        self.fault(-32602, "check", self.root, "", {"other": True})
        self.fault(-32602, "check", self.root, "", {"verify": 1})
        self.fault(-32601, "eval", "1")
        self.fault(-32601, "system.multicall", [])

    def test_without_a_path_it_is_the_drive_or_the_cap_itself(self) -> None:
        cap = self.call("put", self.root, "f", b"1")
        self.assertEqual(self.call("get", cap), b"1")
        self.assertEqual(list(self.call("listdir", self.root)), ["f"])
        self.assertEqual(self.call("get_uri", self.root), self.root)
        self.assertTrue(self.call("check", self.root)["healthy"])
        self.assertEqual(self.call("manifest", self.root), self.call("manifest", self.root, ""))
        told = self.call("system.methodHelp", "check")
        self.assertTrue(told.startswith("check(vdrivename[, path][, options]): "))

    def test_methods_tell_of_themselves(self) -> None:
        names = self.call("system.listMethods")
        self.assertEqual(names, sorted(methods.METHODS))
        for name in names:
            self.assertTrue(self.call("system.methodHelp", name).startswith(f"{name}("))
        told = self.call("system.methodHelp", "put")
        self.assertTrue(told.startswith("put(vdrivename, path, contents[, overwrite]): "))

    def test_a_fault_of_ours_tells_only_a_reference(self) -> None:
        async def broken(_call: Any) -> None:
            raise RuntimeError("the secret is 1234")

        self.patch(methods, "METHODS", {"broken": methods.Method(broken, (), 0)})
        self.assertNotIn("1234", self.fault(500, "broken"))
        (failure,) = self.flushLoggedErrors(UnforeseenError)
        self.assertEqual(str(failure.value), "builtins.RuntimeError")


class LocalTest(XmlRpcCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(os.path.realpath(folder.name))
        self.allow = self.place / "webport_allow_localfile"
        self.gateway.localfiles = LocalFiles(self.allow)
        self.token = {HEADER: self.gateway.tokens.form}

    def allowed(self) -> None:
        self.allow.touch(0o600)

    def test_files(self) -> None:
        self.allowed()
        source, target = self.place / "in", self.place / "out"
        source.write_bytes(self.data)
        self.call("put_localfile", self.root, "a/f", str(source), **self.token)
        done = self.call("get_localfile", self.root, "a/f", str(target), **self.token)
        self.assertIs(done, True)
        self.assertEqual(target.read_bytes(), self.data)

    def test_directories(self) -> None:
        self.allowed()
        (self.place / "in" / "sub").mkdir(parents=True)
        (self.place / "in" / "sub" / "f").write_bytes(self.data)
        told = self.call("put_localdir", self.root, "a", str(self.place / "in"), **self.token)
        self.assertEqual((told["files"], told["bytes"], told["problems"]), (1, 70_000, []))
        out = self.place / "out"
        self.call("get_localdir", self.root, "", str(out), **self.token)
        self.assertEqual((out / "a" / "sub" / "f").read_bytes(), self.data)

    def test_refused_without_the_token_or_the_permission(self) -> None:
        self.call("put", self.root, "f", self.data)
        kinds = ("put_localfile", "get_localfile", "put_localdir", "get_localdir")
        for kind in kinds:
            self.fault(403, kind, self.root, "f", str(self.place / "x"), **self.token)
        self.allowed()
        for kind in kinds:
            self.fault(403, kind, self.root, "f", str(self.place / "x"))
            self.fault(403, kind, self.root, "f", "x", **self.token)
        self.assertEqual([path.name for path in self.place.iterdir()], [self.allow.name])


class RefusedTest(XmlRpcCase):
    def test_a_browser_cannot_call_it_from_elsewhere(self) -> None:
        body = EMPTY.format("mkdir_unlinked")
        foreign = {"Origin": "http://example.org"}, {"Sec-Fetch-Site": "cross-site"}
        for headers in foreign:
            self.assert_status(self.send(body, **headers), 403)
            with_token = {**headers, HEADER: self.gateway.tokens.form}
            self.assert_status(self.send(body, **with_token), 403)
        kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "")
        for kind in kinds:
            told = {"Content-Type": kind}
            self.assert_status(self.ask("POST", "/xmlrpc", body.encode(), told), 415)
            reply = self.ask("POST", "/xmlrpc", body.encode(), {**OWN_PAGE, **told})
            self.assertIn(reply.status, (403, 415))

    def test_our_own_page_needs_the_token(self) -> None:
        body = EMPTY.format("mkdir_unlinked")
        self.assert_status(self.send(body, **OWN_PAGE), 403)
        told = {**OWN_PAGE, HEADER: self.gateway.tokens.form}
        self.assert_status(self.send(body, **told), 200)

    def test_other_methods_and_pages(self) -> None:
        self.assert_status(self.ask("GET", "/xmlrpc", headers=XML), 405)
        self.assert_status(self.ask("POST", "/xmlrpc/x", b"", XML), 404)

    def test_bodies_that_are_no_call(self) -> None:
        call = "<methodCall><methodName>stat</methodName><params>{}</params></methodCall>"
        param = call.format("<param><value>{}</value></param>")
        wrong = {
            "": -32700,
            "no XML": -32700,
            "<methodCall>": -32700,
            "<a/>": -32600,
            "<methodCall/>": -32600,
            "<methodCall><methodName/></methodCall>": -32600,
            "<methodResponse/>": -32600,
            "<!DOCTYPE methodCall><methodCall/>": -32700,
            "<?pi x?><methodCall/>": -32700,
            "<?xml version='1.0' encoding='none-such'?><methodCall/>": -32600,
            param.format("<i4>x</i4>"): -32600,
            param.format("<boolean>2</boolean>"): -32600,
            param.format("<base64>====x</base64>"): -32600,
            param.format("<int>" + "9" * 10_000 + "</int>"): -32600,
            param.format("<bigdecimal>1</bigdecimal>"): -32600,
            param.format("<struct><member><value>1</value></member></struct>"): -32600,
            param.format("<array>" * 200 + "</array>" * 200): -32600,
            call.format("<param><value/></param>" * 20_000): -32600,
        }
        for body, code in wrong.items():
            self.assertEqual(self.fault_of_body(body), code, body[:200])

    def test_a_body_that_is_too_long(self) -> None:
        headers = {**XML, "Content-Length": str(section.MOST_BYTES + 1)}
        reply = self.ask("POST", "/xmlrpc", b"", headers)
        self.assert_status(reply, 413)
        self.assertEqual(self.gateway.spool.used, 0)

    def test_who_reads_nothing_keeps_out_none_but_the_heavy(self) -> None:
        cap = self.put("/uri", some_bytes(2_000_000)).text
        body = request_bytes(
            "POST", "/xmlrpc", xmlrpc.client.dumps((cap, ""), "get").encode(), XML
        )
        stopped = [self.connect() for _ in range(section.MOST_HEAVY)]
        for client in stopped:
            client.transport.pauseProducing()
            client.transport.write(body)
            self.grid.clock.advance(1)
        waiting = self.connect()
        waiting.transport.write(body)
        self.grid.clock.advance(5)
        self.assertEqual(waiting.received, b"")
        self.assertEqual(self.call("stat", cap, "")[1]["size"], 2_000_000)
        self.grid.clock.advance(outflow.STALL_SECONDS + 60)
        self.assertTrue(all(client.lost for client in stopped))
        self.wait(waiting)
        self.assertEqual(read_reply(waiting.received).status, 200)

    def test_entities_expand_to_nothing(self) -> None:
        entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
        bomb = f'<!DOCTYPE m [<!ENTITY a0 "aaaaaaaaaa">{entities}]>'
        outside = '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        for head in (bomb, outside, '<!DOCTYPE m SYSTEM "http://127.0.0.1:1/">'):
            body = f"{head}<methodCall><methodName>&a8;</methodName></methodCall>"
            self.assertEqual(self.fault_of_body(body), -32700)


TAGS = st.sampled_from(sorted(envelope.ELEMENTS))
#: XML of the right elements in the wrong places.
TREES = st.recursive(
    st.sampled_from(["", "1", "x"]),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", TAGS, st.lists(inner)
    ),
)


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn"))),
)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")))
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20
)


class ValueTest(SynchronousTestCase):
    @given(VALUES)
    def test_what_is_written_is_read_by_the_standard_library(self, value: Any) -> None:
        xml = envelope.answer_xml(value)
        ((read,), _) = xmlrpc.client.loads(xml, use_builtin_types=True)
        self.assertEqual(read, value)

    @given(st.text())
    def test_any_text_is_well_formed(self, text: str) -> None:
        ((read,), _) = xmlrpc.client.loads(envelope.answer_xml(text).encode("utf-8"))
        self.assertEqual(len(read), len(text))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_call_or_refused(self, data: bytes) -> None:
        for body in (data, b"<methodCall><params>" + data):
            try:
                envelope.read_call(Data(body))
            except CallError as error:
                self.assertIn(error.code, FAULTS)

    @given(TREES)
    def test_elements_in_any_order_are_a_call_or_refused(self, tree: str) -> None:
        for body in (tree, f"<methodCall>{tree}</methodCall>"):
            try:
                envelope.read_call(Data(body.encode()))
            except CallError as error:
                self.assertIn(error.code, FAULTS)


class TableTest(SynchronousTestCase):
    def test_the_page_tells_every_fault_and_every_method(self) -> None:
        page = Path(__file__).parents[3] / "docs" / "reference" / "xmlrpc.md"
        text = page.read_text("utf-8")
        numbers = [int(each) for each in re.findall(r"^\| (-?\d+) \|", text, re.MULTILINE)]
        self.assertEqual(numbers, list(FAULTS))
        for name, method in methods.METHODS.items():
            self.assertIn(f"| `{name}{method.signature}` |", text)
