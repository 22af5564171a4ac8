"""PUT, POST and DELETE where they cannot do what is asked, and what stays as it was."""

from __future__ import annotations

from tests.material import some_bytes
from tests.unit.web.kit import GatewayCase, Reply, read_reply, request_bytes


class WritingCase(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.readonly = self.get(f"{self.url}?t=readonly-uri").text

    def names(self, url: str) -> list[str]:
        return sorted(self.get(f"{url}?t=json").json[1]["children"])


class PutTest(WritingCase):
    def test_a_file_in_the_way(self) -> None:
        self.put(f"{self.url}/f", b"1")
        for reply in (
            self.put(f"{self.url}/f/g", b"2"),
            self.put(f"{self.url}/f/g?t=mkdir"),
            self.put(f"{self.url}/f?t=mkdir"),
            self.put(f"{self.url}/f/g?t=uri", b"URI:LIT:nbuq"),
        ):
            self.assert_status(reply, 400)
        self.assert_status(self.get(f"{self.url}/f/g"), 404)
        self.assertEqual(self.get(f"{self.url}/f").body, b"1")

    def test_a_file_does_not_replace_a_directory_unasked(self) -> None:
        self.put(f"{self.url}/sub/inner", b"1")
        for spelt in ("", "?replace=only-files", "?overwrite=false"):
            self.assert_status(self.put(f"{self.url}/sub{spelt}", b"2"), 409)
            sent = self.post(f"{self.url}{spelt}", {"sub": b"2"}, t="upload")
            self.assert_status(sent, 409)
        self.assertEqual(self.names(f"{self.url}/sub"), ["inner"])
        self.assert_status(self.put(f"{self.url}/sub?overwrite=true", b"2"), 200)
        self.assertEqual(self.get(f"{self.url}/sub").body, b"2")

    def test_two_spellings_that_contradict(self) -> None:
        self.assert_status(self.put(f"{self.url}/a?overwrite=true&replace=false", b"1"), 400)
        self.assert_status(self.put(f"{self.url}/a?overwrite=true&replace=1", b"1"), 201)

    def test_no_replacing(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.assert_status(self.put(f"{self.url}/a?overwrite=false", b"2"), 409)
        self.assert_status(self.put(f"{self.url}/b?overwrite=false", b"2"), 201)
        sent = self.post(self.url, {"a": b"2"}, t="upload", overwrite="false")
        self.assert_status(sent, 409)
        moved = self.post(self.url, t="rename", from_name="b", to_name="a", replace="false")
        self.assert_status(moved, 409)
        self.assertEqual(self.get(f"{self.url}/a").body, b"1")

    def test_directories_once_and_again(self) -> None:
        first = self.assert_status(self.put(f"{self.url}/a/b/c?t=mkdir"), 201).text
        again = self.assert_status(self.put(f"{self.url}/a/b/c?t=mkdir"), 200).text
        self.assertEqual(first, again)
        self.assertEqual(self.assert_status(self.put(f"{self.url}?t=mkdir"), 200).text, self.root)
        self.assert_status(self.post(f"{self.url}/x/y?t=mkdir"), 201)
        self.assert_status(self.post(self.url, t="mkdir", name="x"), 409)

    def test_where_nothing_can_be_put(self) -> None:
        for url in (
            self.url,
            f"{self.url}/",
            f"{self.url}/a/",
            "/vdrive/global",
            "/vdrive/private/",
        ):
            self.assert_status(self.put(url, b"1"), 400)
        self.assert_status(self.put("/vdrive", b"1"), 405)
        self.assert_status(self.put("/vdrive/nobody/a", b"1"), 404)
        self.assert_status(self.put("/uri/URI:LIT:nbuq/a", b"1"), 400)
        self.assert_status(self.put("/uri/nonsense/a", b"1"), 400)

    def test_names_that_cannot_be(self) -> None:
        for name in ("%2E", "%2E%2E", "a%2Fb", "a%00", "a%0Ab", "x" * 256):
            self.assert_status(self.put(f"{self.url}/{name}", b"1"), 400)
        self.assertEqual(self.names(self.url), [])

    def test_one_name_has_one_spelling(self) -> None:
        self.put(f"{self.url}/%C3%BC", b"1")
        self.assertEqual(self.get(f"{self.url}/u%CC%88").body, b"1")

    def test_caps_that_are_none(self) -> None:
        for said in (b"", b"nonsense", b"URI:CHK:a", b"\xff", b"http://example.org"):
            self.assert_status(self.put(f"{self.url}/a?t=uri", said), 400)
        self.assert_status(self.post(self.url, t="uri", name="a", uri="nonsense"), 400)
        self.assert_status(self.post(self.url, t="uri", name="a"), 400)
        self.assertEqual(self.names(self.url), [])

    def test_white_space_around_a_cap(self) -> None:
        self.assert_status(self.put(f"{self.url}/a?t=uri", b" URI:LIT:nbuq\r\n"), 201)

    def test_unknown_actions(self) -> None:
        for reply in (
            self.put(f"{self.url}/a?t=nothing", b"1"),
            self.post(self.url, t="nothing"),
            self.post(self.url),
            self.get(f"{self.url}?t=nothing"),
            self.put("/uri?t=uri", b"URI:LIT:nbuq"),
            self.post("/uri", t="delete", name="a"),
        ):
            self.assert_status(reply, 400)


class ConditionTest(WritingCase):
    def test_only_if_nothing_is_there(self) -> None:
        self.assert_status(self.put(f"{self.url}/a", b"1", If_None_Match="*"), 201)
        self.assert_status(self.put(f"{self.url}/a", b"2", If_None_Match="*"), 412)
        self.put(f"{self.url}/sub?t=mkdir")
        self.assert_status(
            self.put(f"{self.url}/sub?t=uri", b"URI:LIT:nbuq", If_None_Match="*"), 412
        )
        self.assertEqual(self.get(f"{self.url}/a").body, b"1")

    def test_only_if_it_is_what_the_client_knows(self) -> None:
        self.put(f"{self.url}/a", b"1")
        etag = self.get(f"{self.url}/a").headers["ETag"]
        self.assert_status(self.put(f"{self.url}/a", b"2", If_Match=etag), 200)
        self.assert_status(self.put(f"{self.url}/a", b"3", If_Match=etag), 412)
        self.assert_status(self.put(f"{self.url}/none", b"3", If_Match="*"), 412)
        self.assert_status(self.put(f"{self.url}/a", b"4", If_Match="*"), 200)
        self.assert_status(self.put(f"{self.url}/a", b"5", If_None_Match=etag), 200)
        self.assertEqual(self.get(f"{self.url}/a").body, b"5")

    def test_of_racers_one_wins(self) -> None:
        clients = []
        for number in range(4):
            data = some_bytes(2_000, b"%d" % number)
            client = self.connect()
            client.transport.write(
                request_bytes("PUT", f"{self.url}/raced", data, {"If-None-Match": "*"})
            )
            clients.append(client)
        for client in clients:
            self.wait(client)
        statuses = sorted(read_reply(client.received).status for client in clients)
        self.assertEqual((statuses[0], statuses.count(201)), (201, 1))
        self.assertEqual(set(statuses[1:]), {412})

    def test_of_racers_who_know_the_same_one_wins(self) -> None:
        self.put(f"{self.url}/a", b"0")
        etag = self.get(f"{self.url}/a").headers["ETag"]
        clients = []
        for number in range(4):
            client = self.connect()
            client.transport.write(
                request_bytes("PUT", f"{self.url}/a", b"by %d" % number, {"If-Match": etag})
            )
            clients.append(client)
        for client in clients:
            self.wait(client)
        statuses = [read_reply(client.received).status for client in clients]
        self.assertEqual(sorted(statuses), [200, 412, 412, 412])
        winner = statuses.index(200)
        self.assertEqual(self.get(f"{self.url}/a").body, b"by %d" % winner)


class ReadOnlyTest(WritingCase):
    def test_nothing_can_be_changed(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.put(f"{self.url}/sub/x", b"1")
        url = f"/uri/{self.readonly}"
        refused: list[Reply] = [
            self.put(f"{url}/new", some_bytes(1_000)),
            self.put(f"{url}/a", b"2"),
            self.put(f"{url}/new?t=mkdir"),
            self.put(f"{url}/new?t=uri", b"URI:LIT:nbuq"),
            self.put(f"{url}/sub/new", b"2"),
            self.delete(f"{url}/a"),
            self.post(url, {"new": b"1"}, t="upload"),
            self.post(url, t="mkdir", name="new"),
            self.post(url, t="uri", name="new", uri="URI:LIT:nbuq"),
            self.post(url, t="delete", name="a"),
            self.post(url, t="rename", from_name="a", to_name="b"),
            self.post(url, t="relink", from_name="a", to_dir=self.root),
        ]
        for reply in refused:
            self.assert_status(reply, 403)
        self.assertEqual(self.names(self.url), ["a", "sub"])
        page = self.get(url).text
        self.assertNotIn('name="t" value="upload"', page)
        self.assertNotIn(self.root, page)


class MoveTest(WritingCase):
    def test_rename_of_what_is_not_there(self) -> None:
        self.put(f"{self.url}/b", b"1")
        reply = self.post(self.url, t="rename", from_name="a", to_name="b")
        self.assert_status(reply, 404)
        self.assertEqual(self.get(f"{self.url}/b").body, b"1")

    def test_names_that_cannot_be(self) -> None:
        self.put(f"{self.url}/a", b"1")
        for new in ("x/y", "..", "", "a\x00"):
            reply = self.post(self.url, t="rename", from_name="a", to_name=new)
            self.assert_status(reply, 400)
        self.assert_status(self.post(self.url, t="rename", from_name="a/b", to_name="c"), 400)
        self.assertEqual(self.names(self.url), ["a"])

    def test_to_itself(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.assert_status(self.post(self.url, t="rename", from_name="a", to_name="a"), 200)
        self.assertEqual(self.get(f"{self.url}/a").body, b"1")

    def test_to_another_directory_by_cap_url_and_path(self) -> None:
        other = self.put(f"{self.url}/other?t=mkdir").text
        self.put("/vdrive/private/moved/here?t=mkdir")
        for number, (to_dir, where) in enumerate(
            (
                (other, f"/uri/{other}"),
                (f"{self.url}/other", f"/uri/{other}"),
                ("/vdrive/private/moved/here/", "/vdrive/private/moved/here"),
                ("private:moved/here", "/vdrive/private/moved/here"),
            )
        ):
            name = f"f{number}"
            self.put(f"{self.url}/{name}", b"%d" % number)
            reply = self.post(self.url, t="relink", from_name=name, to_dir=to_dir, to_name="t")
            self.assert_status(reply, 200)
            self.assertEqual(self.get(f"{where}/t").body, b"%d" % number)
            self.assert_status(self.get(f"{self.url}/{name}"), 404)

    def test_into_itself(self) -> None:
        self.put(f"{self.url}/a/b?t=mkdir")
        for to_dir in (f"{self.url}/a", f"{self.url}/a/b"):
            reply = self.post(self.url, t="relink", from_name="a", to_dir=to_dir)
            self.assert_status(reply, 400)
        self.assertEqual(self.names(f"{self.url}/a"), ["b"])

    def test_to_nowhere(self) -> None:
        self.put(f"{self.url}/a", b"1")
        for to_dir, status in (("/status", 400), ("", 400), (f"{self.url}/none", 404), ("x", 400)):
            reply = self.post(self.url, t="relink", from_name="a", to_dir=to_dir)
            self.assert_status(reply, status)
        self.assertEqual(self.names(self.url), ["a"])


class FormTest(WritingCase):
    def test_of_several_files_none_is_linked_if_one_cannot_be(self) -> None:
        self.put(f"{self.url}/b/inner", b"1")
        for data in (b"1", some_bytes(2_000)):
            reply = self.post(self.url, {"a": data, "b": data}, t="upload")
            self.assert_status(reply, 409)
        self.assertEqual(self.names(self.url), ["b"])
        reply = self.post(self.url, {"a": b"1", "b": b"2"}, t="upload", overwrite="true")
        self.assert_status(reply, 201)
        reply = self.post(self.url, {"a": b"3", "b": b"4"}, t="upload")
        self.assert_status(reply, 200)

    def test_forms_without_a_file(self) -> None:
        self.assert_status(self.post(self.url, {}, t="upload"), 400)
        self.assert_status(self.post(self.url, t="upload", file="text"), 400)
        self.assert_status(self.post(self.url, {"": b""}, t="upload"), 400)
        self.assert_status(self.post("/uri", {}, t="upload"), 400)

    def test_several_files(self) -> None:
        reply = self.post(self.url, {"a": b"1", "b": b"2"}, t="upload")
        self.assertEqual((reply.status, len(reply.text.splitlines())), (201, 2))
        self.assertEqual(self.names(self.url), ["a", "b"])
        named = self.post(self.url, {"c": b"1", "d": b"2"}, t="upload", name="x")
        self.assert_status(named, 400)
        same = self.post(self.url, {"x/e": b"1", "y/e": b"2"}, t="upload")
        self.assert_status(same, 400)
        self.assertEqual(self.names(self.url), ["a", "b"])

    def test_a_file_without_a_name(self) -> None:
        self.assert_status(self.post(self.url, {"": b"1"}, t="upload"), 400)
        self.assert_status(self.post(self.url, {"": b"1"}, t="upload", name="n"), 201)
        self.assertEqual(self.names(self.url), ["n"])

    def test_where_no_directory_is(self) -> None:
        self.put(f"{self.url}/f", b"1")
        self.assert_status(self.post(f"{self.url}/f", {"a": b"1"}, t="upload"), 400)
        self.assert_status(self.post(f"{self.url}/none", {"a": b"1"}, t="upload"), 404)
        self.assert_status(self.post(f"{self.url}/f", t="mkdir", name="x"), 400)

    def test_deleting_what_is_not_there(self) -> None:
        self.assert_status(self.post(self.url, t="delete", name="none"), 404)
        self.assert_status(self.post(self.url, t="delete"), 400)
