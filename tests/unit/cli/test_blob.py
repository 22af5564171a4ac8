"""What ``ampgrid blob`` refuses before anything runs."""

from __future__ import annotations

import os

from click.testing import CliRunner

from ampgrid.blobs import BlobName, SyncReport
from ampgrid.cli.blob_options import TOKEN_VARIABLE, options_of, token_of, wrong_key
from ampgrid.cli.blob_sync import _lines, _report, _tell_status
from ampgrid.cli.session import Session
from ampgrid.crypto import a2b, b2a
from ampgrid.errors import BlobError, IntegrityError, WrongKeyError
from tests.unit.cli.command_line import CommandLineCase, run

#: What all commands take, by the names that the commands have for it.
OPTIONS = (
    "blob_path",
    "remote",
    "user",
    "namespace",
    "cert_file",
    "secret_file",
    "token_file",
    "passphrase_file",
    "attempts",
    "external_quota",
)


class BlobTests(CommandLineCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = self.root / "store"
        self.words = ("blob", "--help")
        (self.root / "file").write_bytes(b"content")

    def blob(self, *words: object) -> tuple[object, ...]:
        return ("blob", *words, "--path", self.store)

    def secret(self) -> None:
        self.done("blob", "secret", "--json", self.store / "secret")

    def test_a_secret_is_made_once(self) -> None:
        self.secret()
        made = (self.store / "secret").read_text()
        self.assertEqual(len(a2b(made.strip())), 32)
        self.assertEqual((self.store / "secret").stat().st_mode & 0o777, 0o600)
        self.refused(3, "blob", "secret", self.store / "secret")
        self.assertEqual((self.store / "secret").read_text(), made)

    def test_without_a_secret_it_says_how_to_make_one(self) -> None:
        for words in (("put", self.root / "file", "x"), ("list",), ("get", "x")):
            self.assertIn("ampgrid blob secret", self.refused(2, *self.blob(*words)))

    def test_a_secret_that_cannot_be_used(self) -> None:
        self.store.mkdir()
        file = self.store / "secret"
        for text, status in (("UPPER!", 2), ("", 2), (b2a(b"s" * 31), 2)):
            file.write_text(text)
            file.chmod(0o600)
            told = self.refused(status, *self.blob("list"))
            if text:
                self.assertNotIn(text, told)
        file.write_text(b2a(b"s" * 32))
        file.chmod(0o644)
        self.assertIn("chmod 600", self.refused(3, *self.blob("list")))

    def test_what_needs_a_remote_says_so(self) -> None:
        self.secret()
        for words in (
            ("sync",),
            ("send-missing",),
            ("fetch-missing",),
            ("flags", "x"),
            ("upload", self.root / "file", "x"),
            ("download", "x"),
            ("list", "--deleted"),
        ):
            self.assertIn("--remote", self.refused(2, *self.blob(*words)))

    def test_options_that_cannot_be(self) -> None:
        self.secret()
        for words in (
            ("flags", "x", "--set", "DONE"),
            ("list", "--order-by", "size"),
            ("put", self.root / "file", "x", "--priority", "now"),
            ("put", self.root / "file", "x", "--size", "many"),
            ("status", "--attempts", "0"),
            ("export", "f"),
            ("delete",),
        ):
            outcome = run([str(word) for word in self.blob(*words)])
            self.assertEqual((outcome.status, outcome.out), (2, ""), words)

    def test_a_file_that_is_missing(self) -> None:
        self.secret()
        self.refused(8, *self.blob("put", self.root / "none", "x"))
        self.refused(8, *self.blob("put", self.root, "x"))

    def test_the_blob_and_json_do_not_share_the_standard_output(self) -> None:
        self.secret()
        for command in ("get", "download"):
            self.assertIn("--output-file", self.refused(2, *self.blob(command, "x", "--json")))
            self.refused(2, *self.blob(command, "x", "--json", "--output-file", "-"))

    def test_secrets_have_no_option_of_their_own(self) -> None:
        for command in ("put", "sync", "rekey"):
            shown = run(["blob", command, "--help"]).out
            for option in ("--secret ", "--token ", "--passphrase ", "--key "):
                self.assertNotIn(option, shown)

    def test_a_remote_behind_a_node_that_does_not_run(self) -> None:
        self.done("create-node", "--listen", "none", self.root / "node")
        self.secret()
        for remote in ("grid:private:blobs", "amp:" + "a" * 32):
            words = self.blob("download", "x", "--remote", remote, "--output-file", "out")
            told = self.refused(4, "-d", self.root / "node", *words)
            self.assertIn("gateway", told)

    def test_a_remote_of_no_kind_and_one_without_a_token(self) -> None:
        self.secret()
        for remote in ("ftp://host/", "ampgrid:x", "host", "grid"):
            told = self.refused(2, *self.blob("list", "--remote", remote))
            for kind in ("https://", "grid:PATH", "amp:NODEID"):
                self.assertIn(kind, told)
        told = self.refused(2, *self.blob("list", "--remote", "https://host/blobs/"))
        self.assertIn("--token-file", told)

    def test_an_empty_token_is_none(self) -> None:
        options = options_of(Session(), dict.fromkeys(OPTIONS, None))
        for text in ("", " ", "\n"):
            self.patch(os, "environ", {**os.environ, TOKEN_VARIABLE: text})
            self.assertIsNone(token_of(options))
        self.patch(os, "environ", {**os.environ, TOKEN_VARIABLE: "said\n"})
        self.assertEqual(token_of(options), "said")

    def test_what_was_deleted_is_not_there(self) -> None:
        lines = _lines({"a": "PENDING_DELETE"}, ["a", "b"], only_there=True, gone=True)
        self.assertEqual(lines, ["-     gone   a  PENDING_DELETE", "-     gone   b"])
        lines = _lines({"a": "SYNCED"}, ["a"], only_there=False)
        self.assertEqual(lines, ["here  there  a  SYNCED"])

    def test_a_store_with_another_passphrase_than_the_key_of_the_node(self) -> None:
        session = Session(str(self.root / "node"))
        for key, says_so in ((b"k" * 32, True), ("typed", False), (None, False)):
            told = str(wrong_key(WrongKeyError("It is the wrong one."), session, key))
            self.assertIn("wrong one", told)
            self.assertEqual("--passphrase-file" in told, says_so)

    def test_a_damaged_store_is_no_success(self) -> None:
        answer = {"progress": {"SYNCED": 1}, "problems": ["page 3 is bad"]}
        with CliRunner().isolation() as (out, _err, _both):
            with self.assertRaises(IntegrityError):
                _tell_status(Session(), None, answer)
            self.assertIn(b"page 3 is bad", out.getvalue())
            _tell_status(Session(), None, {"progress": {}, "problems": []})

    def test_what_could_not_be_moved_is_named_and_is_no_success(self) -> None:
        report = SyncReport(sent=1, failed=[(BlobName.of("x"), "it is damaged")])
        with CliRunner().isolation() as (out, err, _both):
            with self.assertRaises(BlobError):
                _report(Session(), report)
            self.assertEqual(out.getvalue(), b"1 sent, 0 fetched.\n")
            self.assertEqual(err.getvalue(), b"default/x: it is damaged\n")
            _report(Session(), SyncReport(deleted_here=2))
            self.assertIn(b"2 deleted here", out.getvalue())
