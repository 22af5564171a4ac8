"""Every sentence of seed 004 that asks for something, and the case that shows it.

`SENTENCES` is the table: what the seed asks, in our own words, by its section, and the name of the
test that shows it. A row without a test, or a test that is not there, fails.
"""

from __future__ import annotations

from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import test_web, test_web_clients
from tests.material import some_bytes
from tests.unit.web import test_checking, test_localfiles, test_pages, test_password, test_xmlrpc
from tests.unit.web.kit import GatewayCase

LOCAL_KINDS = "test_localfile_on_a_directory_and_localdir_on_a_file"
#: (section of the seed, what it asks for, name of the test)
SENTENCES = [
    (
        "1.a",
        "a port in the file webport, or tcp:PORT:interface=",
        "test_the_file_outranks_the_settings_and_none_is_none",
    ),
    (
        "1.a",
        "on the loopback, only programs of this host connect",
        "test_others_reach_it_only_with_a_password",
    ),
    ("1.a", "ssl: with a key and a certificate", "test_tls"),
    ("1.a", "webpassword asks for digest authentication", "test_digest"),
    ("1.a", "of every connection", "test_everything_asks"),
    ("1.b", "each file has a URL below its drive", "test_a_file_below_its_drive"),
    ("1.b", "each directory has a URL too", "test_a_directory_below_its_drive"),
    ("1.b", "there are two drives, global and private", "test_there_are_two_drives"),
    ("1.c", "/uri/URI is a file or a directory", "test_a_file_by_its_uri"),
    ("1.c", "/uri/URI/a/b is what is below a directory", "test_a_path_below_a_uri"),
    ("1.d", "t=json of a file: filenode, ro_uri, size", "test_json_of_a_file"),
    (
        "1.d",
        "t=json of a directory: rw_uri, ro_uri, children",
        "test_json_of_a_directory",
    ),
    ("1.d", "a child is told as by itself, without its children", "test_json_does_not_recurse"),
    ("1.d", "rw_uri is there if and only if one can write", "test_rw_uri_only_for_who_can_write"),
    ("1.e", "GET of a file is its contents", "test_a_file_below_its_drive"),
    (
        "1.e",
        "GET of a directory is a page, its links without t=",
        "test_links_of_a_page_have_no_t",
    ),
    ("1.e", "the page has forms to upload and to delete, by POST", "test_forms_of_a_page"),
    ("1.e", "save=true makes an attachment of it", "test_save_makes_an_attachment"),
    ("1.e", "filename= tells the type", "test_filename_tells_the_type"),
    ("1.e", "filename= is the name of the attachment", "test_filename_names_the_attachment"),
    ("1.f", "PUT /uri uploads and answers the URI", "test_put_uri"),
    ("1.f", "what is put so is in no directory", "test_put_uri"),
    ("1.g", "PUT /uri?t=mkdir makes an empty directory", "test_put_uri_mkdir"),
    ("1.h", "PUT t=uri attaches a file or a directory", "test_put_t_uri"),
    ("1.h", "the URI of the child is in the body", "test_put_t_uri"),
    (
        "1.h",
        "overwrite=true changes the name, false is an error",
        "test_overwrite_in_all_spellings",
    ),
    ("1.h", "overwrite= true, t, 1, false, f, 0 in any case", "test_overwrite_in_all_spellings"),
    ("1.h", "overwrite= is true if left out", "test_put_t_uri_replaces_by_default"),
    ("1.h", "intermediate directories are made", "test_put_t_uri_makes_directories"),
    ("1.h", "a shared directory can be attached", "test_put_t_uri_of_a_directory"),
    ("1.i", "DELETE takes a name out", "test_delete"),
    ("1.i", "what the name stood for is still there by its URI", "test_delete_keeps_the_thing"),
    ("1.i", "there are other names that still lead to it", "test_delete_keeps_the_thing"),
    ("1.i", "the URL has to end with a name", "test_delete_of_a_root"),
    ("2.a", "PUT uploads and links", "test_put_file"),
    ("2.a", "PUT makes intermediate directories", "test_put_file_makes_directories"),
    ("2.a", "PUT answers the URI", "test_put_file"),
    ("2.a", "curl -T does it", "test_up_and_down"),
    ("2.a", "201 for a new file, 200 for a changed one", "test_put_file_again"),
    ("3", "name and URI of each child are in the listing", "test_json_of_a_directory"),
    ("3", "a URI stands for the same thing whatever names do", "test_a_uri_outlives_names"),
    ("4.a", "/uri?uri= redirects and keeps the other arguments", "test_uri_redirect"),
    ("4.a", "/uri?uri= takes no path behind the URI", "test_uri_redirect_takes_no_path"),
    ("4.b", "t=rename-form is a form with the name in from_name", "test_rename_form"),
    ("4.b", "the form sends POST t=rename", "test_rename_by_its_form"),
    ("4.c", "POST t=upload with a name", "test_post_upload_with_a_name"),
    (
        "4.c",
        "POST t=upload without one takes the file's",
        "test_post_upload_without_a_name",
    ),
    ("4.c", "a slash in name= is a 400", "test_post_upload_with_a_slash"),
    ("4.c", "POST t=mkdir", "test_post_mkdir"),
    ("4.c", "POST t=uri", "test_post_uri"),
    ("4.c", "POST t=delete", "test_post_delete"),
    ("4.c", "POST t=rename", "test_post_rename"),
    ("4.c", "from_name is removed and is there as to_name", "test_post_rename"),
    ("4.c", "t=rename replaces what has the new name", "test_post_rename_replaces"),
    ("5", "GET t=download&localfile= writes a file", "test_download_of_a_file"),
    ("5", "GET t=download&localdir= writes all below", "test_upload_and_download_of_a_tree"),
    ("5", "localfile= on a directory is an error, and the other way", LOCAL_KINDS),
    ("5", "from 127.0.0.1 alone", "test_another_machine"),
    ("5", "the path is absolute", "test_a_path_that_is_not_absolute"),
    ("5", "off without webport_allow_localfile", "test_off_by_default"),
    ("5", "PUT t=upload&localfile= puts a file", "test_upload_of_a_file"),
    ("5", "and makes parent directories", "test_upload_of_a_file"),
    ("5", "PUT t=upload&localdir= puts all below", "test_upload_and_download_of_a_tree"),
    ("5", "and keeps what is there, as cp -r does", "test_upload_and_download_of_a_tree"),
    ("5", "curl -T /dev/null with localdir= does it", "test_curl_provokes_a_recursive_upload"),
    ("5", "t=manifest is a page", "test_manifest"),
    ("6", "XML-RPC at /xmlrpc", "test_the_client_of_the_standard_library"),
    ("6", "listdir: childname -> (stuff)", "test_listdir"),
    ("6", "put -> URI, get -> contents", "test_put_and_get"),
    ("6", "on the drives by their names", "test_put_and_get_on_the_drives"),
    ("6", "mkdir -> URI", "test_mkdir"),
    ("6", "put_localfile -> URI, get_localfile", "test_files"),
    ("6", "put_localdir, get_localdir, recursive", "test_directories"),
    ("6", "put_uri -> URI", "test_put_uri_by_a_call"),
    ("6", "and the others: delete, rename", "test_delete_and_rename"),
    ("6", "and the others: check, manifest", "test_check_and_manifest"),
]


#: Cases that are not in this file.
OTHERS = (
    *(test_localfiles.AllowedTest, test_localfiles.RefusedTest, test_checking.WalkTest),
    *(test_password.PasswordTest, test_pages.FormsTest),
    *(test_xmlrpc.MethodTest, test_xmlrpc.LocalTest),
    *(test_web.PortTests, test_web_clients.CurlTests, test_web_clients.XmlRpcTests),
)


class SeedTest(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.data = some_bytes(70_000)

    def names(self, url: str) -> list[str]:
        return sorted(self.get(f"{url}?t=json").json[1]["children"])

    # 1.b and 1.c

    def test_a_file_below_its_drive(self) -> None:
        for drive in ("global", "private"):
            url = f"/vdrive/{drive}/Documents/notes-{self.id()[-5:]}.txt"
            self.assert_status(self.put(url, self.data), 201)
            reply = self.assert_status(self.get(url), 200)
            self.assertEqual(reply.body, self.data)
            self.assertEqual(reply.headers["Content-Type"], "text/plain; charset=utf-8")

    def test_a_directory_below_its_drive(self) -> None:
        self.put("/vdrive/private/Pictures/tractors.jpg", b"x" * 100)
        for url in ("/vdrive/private/Pictures", "/vdrive/private/Pictures/"):
            reply = self.assert_status(self.get(url), 200)
            self.assertEqual(reply.headers["Content-Type"], "text/html; charset=utf-8")
            self.assertIn('href="/vdrive/private/Pictures/tractors.jpg"', reply.text)

    def test_there_are_two_drives(self) -> None:
        for url in ("/vdrive", "/vdrive/"):
            self.assertEqual(self.get(url).json, {"drives": ["global", "private"]})
        self.assert_status(self.get("/vdrive/another"), 404)
        self.assert_status(self.get("/vdrive/no%20drive"), 404)

    def test_a_file_by_its_uri(self) -> None:
        cap = self.put("/uri", self.data).text
        for word in (cap, quote(cap, safe="")):
            self.assertEqual(self.get(f"/uri/{word}").body, self.data)

    def test_a_path_below_a_uri(self) -> None:
        self.put(f"{self.url}/Pictures/tractors.jpg", self.data)
        self.assertEqual(self.get(f"{self.url}/Pictures/tractors.jpg").body, self.data)

    # 1.d

    def test_json_of_a_file(self) -> None:
        cap = self.put(f"{self.url}/a", self.data).text
        kind, told = self.get(f"{self.url}/a?t=json").json
        self.assertEqual(kind, "filenode")
        self.assertEqual((told["ro_uri"], told["size"]), (cap, len(self.data)))
        self.assertNotIn("rw_uri", told)
        self.assertEqual(told["metadata"]["size"], len(self.data))

    def test_json_of_a_directory(self) -> None:
        cap = self.put(f"{self.url}/foo.txt", self.data).text
        sub = self.put(f"{self.url}/subdir?t=mkdir").text
        reply = self.get(f"{self.url}?t=json")
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        kind, told = reply.json
        self.assertEqual(kind, "dirnode")
        self.assertEqual(told["rw_uri"], self.root)
        self.assertTrue(told["ro_uri"].startswith("URI:DIR-RO:"))
        children = told["children"]
        self.assertEqual(sorted(children), ["foo.txt", "subdir"])
        self.assertEqual(children["foo.txt"][0], "filenode")
        self.assertEqual(children["foo.txt"][1]["ro_uri"], cap)
        self.assertEqual(children["foo.txt"][1]["size"], len(self.data))
        self.assertEqual(children["subdir"][0], "dirnode")
        self.assertEqual(children["subdir"][1]["rw_uri"], sub)

    def test_json_does_not_recurse(self) -> None:
        self.put(f"{self.url}/sub/inner", b"1")
        told = self.get(f"{self.url}?t=json").json[1]["children"]["sub"][1]
        self.assertNotIn("children", told)
        alone = self.get(f"{self.url}/sub?t=json").json[1]
        self.assertEqual({**told, "children": alone["children"]}, alone)

    def test_rw_uri_only_for_who_can_write(self) -> None:
        self.put(f"{self.url}/sub?t=mkdir")
        readonly = self.get(f"{self.url}?t=json").json[1]["ro_uri"]
        told = self.get(f"/uri/{readonly}?t=json").json[1]
        self.assertNotIn("rw_uri", told)
        self.assertEqual(told["ro_uri"], readonly)
        self.assertNotIn("rw_uri", told["children"]["sub"][1])

    # 1.e

    def test_links_of_a_page_have_no_t(self) -> None:
        self.put(f"{self.url}/a%20b%3F", b"1")
        self.put(f"{self.url}/sub?t=mkdir")
        page = self.get(self.url).text
        self.assertIn(f'href="/uri/{self.root}/a%20b%3F"', page)
        self.assertIn(f'href="/uri/{self.root}/sub/"', page)
        self.assertNotIn('href="?', page)

    def test_forms_of_a_page(self) -> None:
        self.put(f"{self.url}/a", b"1")
        page = self.get(self.url).text
        for action in ("upload", "mkdir", "uri", "delete"):
            self.assertIn(f'name="t" value="{action}"', page)
        self.assertIn('method="post" enctype="multipart/form-data"', page)

    def test_save_makes_an_attachment(self) -> None:
        self.put(f"{self.url}/a.txt", b"1")
        reply = self.get(f"{self.url}/a.txt?save=true")
        self.assertEqual(reply.headers["Content-Disposition"], 'attachment; filename="a.txt"')
        shown = self.get(f"{self.url}/a.txt").headers["Content-Disposition"]
        self.assertTrue(shown.startswith("inline"))

    def test_filename_tells_the_type(self) -> None:
        cap = self.put("/uri", b"1").text
        reply = self.get(f"/uri/{cap}?filename=tractors.jpg")
        self.assertEqual(reply.headers["Content-Type"], "image/jpeg")
        self.assertEqual(
            self.get(f"/uri/{cap}").headers["Content-Type"], "application/octet-stream"
        )

    def test_filename_names_the_attachment(self) -> None:
        cap = self.put("/uri", b"1").text
        reply = self.get(f"/uri/{cap}?filename=z%C3%BCge.jpg&save=true")
        told = "attachment; filename=\"z_ge.jpg\"; filename*=UTF-8''z%C3%BCge.jpg"
        self.assertEqual(reply.headers["Content-Disposition"], told)

    # 1.f to 1.i

    def test_put_uri(self) -> None:
        reply = self.assert_status(self.put("/uri", self.data), 201)
        self.assertTrue(reply.text.startswith("URI:CHK:"))
        self.assertEqual(self.get(f"/uri/{reply.text}").body, self.data)
        self.assertEqual(self.names(self.url), [])

    def test_put_uri_mkdir(self) -> None:
        reply = self.assert_status(self.put("/uri?t=mkdir"), 201)
        self.assertTrue(reply.text.startswith("URI:DIR:"))
        self.assertEqual(self.names(f"/uri/{reply.text}"), [])

    def test_put_t_uri(self) -> None:
        cap = self.put("/uri", self.data).text
        reply = self.put(f"{self.url}/tractors.jpg?t=uri", cap.encode())
        self.assertEqual((reply.status, reply.text), (201, cap))
        self.assertEqual(self.get(f"{self.url}/tractors.jpg").body, self.data)

    def test_overwrite_in_all_spellings(self) -> None:
        one, two = (self.put("/uri", data).text for data in (b"one", b"two"))
        said = {"true": 200, "t": 200, "1": 200, "false": 409, "f": 409, "0": 409}
        for name in ("overwrite", "replace"):
            for word, status in said.items():
                for spelt in (word, word.upper(), word.title()):
                    self.put(f"{self.url}/a?t=uri", one.encode())
                    reply = self.put(f"{self.url}/a?t=uri&{name}={spelt}", two.encode())
                    self.assert_status(reply, status)
                    now = self.get(f"{self.url}/a").body
                    self.assertEqual(now, b"two" if status == 200 else b"one")
        self.assert_status(self.put(f"{self.url}/a?t=uri&overwrite=maybe", two.encode()), 400)

    def test_put_t_uri_replaces_by_default(self) -> None:
        self.put(f"{self.url}/a/b?t=mkdir")
        cap = self.put("/uri", b"1").text
        self.assert_status(self.put(f"{self.url}/a?t=uri", cap.encode()), 200)
        self.assertEqual(self.get(f"{self.url}/a").body, b"1")

    def test_put_t_uri_makes_directories(self) -> None:
        cap = self.put("/uri", b"1").text
        self.assert_status(self.put(f"{self.url}/a/b/c?t=uri", cap.encode()), 201)
        self.assertEqual(self.get(f"{self.url}/a/b/c").body, b"1")

    def test_put_t_uri_of_a_directory(self) -> None:
        shared = self.new_directory()
        self.put(f"/uri/{shared}/inner", b"1")
        self.put(f"{self.url}/shared?t=uri", shared.encode())
        self.assertEqual(self.get(f"{self.url}/shared/inner").body, b"1")

    def test_delete(self) -> None:
        cap = self.put(f"{self.url}/a", self.data).text
        reply = self.delete(f"{self.url}/a")
        self.assertEqual((reply.status, reply.text), (200, cap))
        self.assert_status(self.get(f"{self.url}/a"), 404)
        self.assert_status(self.delete(f"{self.url}/a"), 404)

    def test_delete_keeps_the_thing(self) -> None:
        cap = self.put(f"{self.url}/a", self.data).text
        self.put(f"{self.url}/b?t=uri", cap.encode())
        self.delete(f"{self.url}/a")
        self.assertEqual(self.get(f"{self.url}/b").body, self.data)
        self.delete(f"{self.url}/b")
        self.assertEqual(self.get(f"/uri/{cap}").body, self.data)

    def test_delete_of_a_root(self) -> None:
        for url in (self.url, f"{self.url}/", "/vdrive/private", "/vdrive/global/"):
            self.assert_status(self.delete(url), 400)
        self.assert_status(self.delete("/uri"), 405)

    # 2.a

    def test_put_file(self) -> None:
        reply = self.assert_status(self.put(f"{self.url}/new", self.data), 201)
        self.assertEqual(self.get(f"/uri/{reply.text}").body, self.data)
        self.assertEqual(self.get(f"{self.url}/new").body, self.data)

    def test_put_file_makes_directories(self) -> None:
        self.assert_status(self.put(f"{self.url}/a/b/c", self.data), 201)
        self.assertEqual(self.names(f"{self.url}/a"), ["b"])
        self.assertEqual(self.get(f"{self.url}/a/b/c").body, self.data)

    def test_put_file_again(self) -> None:
        self.assert_status(self.put(f"{self.url}/a", b"one"), 201)
        self.assert_status(self.put(f"{self.url}/a", b"two"), 200)
        self.assertEqual(self.get(f"{self.url}/a").body, b"two")

    # 3

    def test_a_uri_outlives_names(self) -> None:
        first = self.put(f"{self.url}/a", b"first").text
        self.put(f"{self.url}/a", b"second")
        self.assertEqual(self.get(f"/uri/{first}").body, b"first")
        self.assertEqual(self.get(f"{self.url}/a").body, b"second")

    # 4

    def test_uri_redirect(self) -> None:
        cap = self.put("/uri", b"1").text
        reply = self.get(f"/uri?uri={quote(cap)}&filename=a%20b&save=true")
        self.assert_status(reply, 302)
        self.assertEqual(reply.headers["Location"], f"/uri/{cap}?filename=a+b&save=true")
        saved = self.get(reply.headers["Location"])
        self.assertEqual(saved.headers["Content-Disposition"], 'attachment; filename="a b"')

    def test_uri_redirect_takes_no_path(self) -> None:
        for said in (f"{self.root}/a", "http://example.org/", "//example.org", ""):
            self.assert_status(self.get(f"/uri?uri={quote(said)}"), 400)
        self.assert_status(self.get("/uri"), 400)

    def test_rename_form(self) -> None:
        self.put(f"{self.url}/old%22%3E", b"1")
        page = self.assert_status(self.get(f"{self.url}?t=rename-form&name=old%22%3E"), 200).text
        self.assertIn('name="from_name" value="old&#34;&gt;"', page)
        self.assertIn('name="to_name"', page)
        self.assertIn('name="t" value="rename"', page)
        self.assert_status(self.get(f"{self.url}?t=rename-form&name=none"), 404)

    def test_post_upload_with_a_name(self) -> None:
        reply = self.post(self.url, {"local": self.data}, t="upload", name="given")
        self.assert_status(reply, 201)
        self.assertEqual(self.names(self.url), ["given"])
        self.assertEqual(self.get(f"{self.url}/given").body, self.data)

    def test_post_upload_without_a_name(self) -> None:
        for sent in ("mine.txt", "C:\\Files\\mine.txt", "/home/me/mine.txt"):
            self.post(self.url, {sent: self.data}, t="upload")
            self.assertEqual(self.names(self.url), ["mine.txt"])

    def test_post_upload_with_a_slash(self) -> None:
        reply = self.post(self.url, {"local": self.data}, t="upload", name="a/b")
        self.assert_status(reply, 400)
        self.assertEqual(self.names(self.url), [])

    def test_post_mkdir(self) -> None:
        reply = self.assert_status(self.post(self.url, t="mkdir", name="sub"), 201)
        self.assertEqual(self.get(f"{self.url}/sub?t=uri").text, reply.text)

    def test_post_uri(self) -> None:
        cap = self.put("/uri", self.data).text
        self.assert_status(self.post(self.url, t="uri", name="linked", uri=cap), 201)
        self.assertEqual(self.get(f"{self.url}/linked").body, self.data)

    def test_post_delete(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.assert_status(self.post(self.url, t="delete", name="a"), 200)
        self.assertEqual(self.names(self.url), [])

    def test_post_rename(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.assert_status(self.post(self.url, t="rename", from_name="a", to_name="b"), 200)
        self.assertEqual(self.names(self.url), ["b"])

    def test_post_rename_replaces(self) -> None:
        self.put(f"{self.url}/a", b"1")
        self.put(f"{self.url}/b", b"2")
        self.assert_status(self.post(self.url, t="rename", from_name="a", to_name="b"), 200)
        self.assertEqual(self.names(self.url), ["b"])
        self.assertEqual(self.get(f"{self.url}/b").body, b"1")


class TableTest(SynchronousTestCase):
    def test_every_section_of_the_seed_is_there(self) -> None:
        sections = {row[0] for row in SENTENCES}
        one, four = (f"1.{letter}" for letter in "abcdefghi"), ("4.a", "4.b", "4.c")
        self.assertEqual(sections, {*one, "2.a", "3", *four, "5", "6"})

    def test_every_sentence_has_its_case(self) -> None:
        cases = (SeedTest, *OTHERS)
        missing = [row for row in SENTENCES if not any(hasattr(case, row[2]) for case in cases)]
        self.assertEqual(missing, [])

    def test_every_case_is_in_the_table(self) -> None:
        cases = {name for name in vars(SeedTest) if name.startswith("test_")}
        self.assertEqual(cases - {row[2] for row in SENTENCES}, set())
