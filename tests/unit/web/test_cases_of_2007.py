"""The cases that the web API of 2007 was tested with, each by its name, and what shows it here.

`CASES` is the table: the name of 2007, and ``Class.test`` of ours. Where the way is another than
in 2007 the comment beside it says so. A name without a test, or a test that is not there, fails.
"""

from __future__ import annotations

from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.material import some_bytes
from tests.unit.web import (
    test_checking,
    test_localfiles,
    test_password,
    test_seed_004,
    test_xmlrpc,
)
from tests.unit.web.kit import GatewayCase

CASES = {
    # GET
    "welcome": "Case2007Test.test_welcome",
    "GET_FILEURL": "SeedTest.test_a_file_below_its_drive",
    "GET_FILEURL_save": "SeedTest.test_save_makes_an_attachment",
    "GET_FILEURL_missing": "Case2007Test.test_get_what_is_missing",
    "GET_FILEURL_json": "SeedTest.test_json_of_a_file",
    "GET_FILEURL_json_missing": "Case2007Test.test_get_what_is_missing",
    "GET_FILEURL_uri": "Case2007Test.test_get_uri",
    "GET_FILEURL_uri_missing": "Case2007Test.test_get_what_is_missing",
    "GET_DIRURL": "SeedTest.test_a_directory_below_its_drive",
    "GET_DIRURL_json": "SeedTest.test_json_of_a_directory",
    "GET_DIRURL_manifest": "WalkTest.test_manifest",
    "GET_DIRURL_uri": "Case2007Test.test_get_uri",
    "GET_DIRURL_readonly_uri": "Case2007Test.test_get_uri",
    "GET_URI_form": "SeedTest.test_uri_redirect",
    "GET_URI_form_bad": "SeedTest.test_uri_redirect_takes_no_path",
    "GET_URI_URL": "SeedTest.test_a_file_by_its_uri",
    "GET_URI_URL_dir": "SeedTest.test_put_uri_mkdir",
    "GET_URI_URL_missing": "Case2007Test.test_get_what_is_missing",
    "GET_rename_form": "SeedTest.test_rename_form",
    # PUT
    "PUT_NEWFILEURL": "SeedTest.test_put_file",
    "PUT_NEWFILEURL_replace": "SeedTest.test_put_file_again",
    "PUT_NEWFILEURL_no_replace": "Case2007Test.test_put_file_that_may_not_replace",
    "PUT_NEWFILEURL_mkdirs": "SeedTest.test_put_file_makes_directories",
    "PUT_NEWFILEURL_blocked": "Case2007Test.test_put_where_a_file_is_in_the_way",
    "PUT_NEWFILEURL_uri": "SeedTest.test_put_t_uri",
    "PUT_NEWFILEURL_uri_replace": "SeedTest.test_overwrite_in_all_spellings",
    "PUT_NEWFILEURL_uri_no_replace": "SeedTest.test_overwrite_in_all_spellings",
    "PUT_NEWDIRURL": "Case2007Test.test_put_mkdir",
    # A directory that is there stays: it is never put away for an empty one.
    "PUT_NEWDIRURL_replace": "Case2007Test.test_put_mkdir",
    "PUT_NEWDIRURL_no_replace": "Case2007Test.test_put_mkdir",
    "PUT_NEWDIRURL_mkdirs": "Case2007Test.test_put_mkdir",
    "PUT_NEWFILE_URI": "SeedTest.test_put_uri",
    "PUT_NEWFILE_URI_only_PUT": "Case2007Test.test_put_unlinked_knows_no_other_t",
    "PUT_NEWFILE_URI_empty": "Case2007Test.test_put_nothing",
    "PUT_NEWDIR_URI": "SeedTest.test_put_uri_mkdir",
    # DELETE
    "DELETE_FILEURL": "SeedTest.test_delete",
    "DELETE_FILEURL_missing": "Case2007Test.test_delete_what_is_missing",
    "DELETE_FILEURL_missing2": "Case2007Test.test_delete_what_is_missing",
    "DELETE_DIRURL": "Case2007Test.test_delete_a_directory",
    "DELETE_DIRURL_missing": "Case2007Test.test_delete_what_is_missing",
    "DELETE_DIRURL_missing2": "Case2007Test.test_delete_what_is_missing",
    # localfile= and localdir=
    "GET_FILEURL_localfile": "AllowedTest.test_download_of_a_file",
    "GET_FILEURL_localfile_disabled": "RefusedTest.test_off_by_default",
    "GET_FILEURL_localfile_nonlocal": "RefusedTest.test_another_machine",
    "GET_FILEURL_localfile_nonabsolute": "RefusedTest.test_a_path_that_is_not_absolute",
    "PUT_NEWFILEURL_localfile": "AllowedTest.test_upload_of_a_file",
    "PUT_NEWFILEURL_localfile_disabled": "RefusedTest.test_off_by_default",
    "PUT_NEWFILEURL_localfile_nonlocal": "RefusedTest.test_another_machine",
    "PUT_NEWFILEURL_localfile_nonabsolute": "RefusedTest.test_a_path_that_is_not_absolute",
    "PUT_NEWFILEURL_localfile_mkdirs": "AllowedTest.test_upload_of_a_file",
    "GET_DIRURL_localdir": "AllowedTest.test_upload_and_download_of_a_tree",
    "GET_DIRURL_localdir_disabled": "RefusedTest.test_off_by_default",
    "GET_DIRURL_localdir_nonlocal": "RefusedTest.test_another_machine",
    "GET_DIRURL_localdir_nonabsolute": "RefusedTest.test_a_path_that_is_not_absolute",
    "PUT_NEWDIRURL_localdir": "AllowedTest.test_upload_and_download_of_a_tree",
    "PUT_NEWDIRURL_localdir_mkdirs": "AllowedTest.test_upload_and_download_of_a_tree",
    "PUT_NEWDIRURL_localdir_disabled": "RefusedTest.test_off_by_default",
    "PUT_NEWDIRURL_localdir_nonlocal": "RefusedTest.test_another_machine",
    "PUT_NEWDIRURL_localdir_nonabsolute": "RefusedTest.test_a_path_that_is_not_absolute",
    # POST
    "POST_upload": "SeedTest.test_post_upload_without_a_name",
    "POST_upload_replace": "Case2007Test.test_post_upload_replaces",
    "POST_upload_no_replace_ok": "Case2007Test.test_post_upload_that_may_not_replace",
    "POST_upload_no_replace_queryarg": "Case2007Test.test_post_upload_that_may_not_replace",
    "POST_upload_no_replace_field": "Case2007Test.test_post_upload_that_may_not_replace",
    "POST_upload_whendone": "Case2007Test.test_when_done",
    "POST_upload_named": "SeedTest.test_post_upload_with_a_name",
    "POST_upload_named_badfilename": "SeedTest.test_post_upload_with_a_slash",
    "POST_mkdir": "SeedTest.test_post_mkdir",
    # As with PUT: 409, and what is there stays.
    "POST_mkdir_replace": "Case2007Test.test_post_mkdir_where_something_is",
    "POST_mkdir_no_replace_queryarg": "Case2007Test.test_post_mkdir_where_something_is",
    "POST_mkdir_no_replace_field": "Case2007Test.test_post_mkdir_where_something_is",
    "POST_mkdir_whendone_field": "Case2007Test.test_when_done",
    "POST_mkdir_whendone_queryarg": "Case2007Test.test_when_done",
    "POST_put_uri": "SeedTest.test_post_uri",
    "POST_put_uri_replace": "Case2007Test.test_post_uri_replaces_or_not",
    "POST_put_uri_no_replace_queryarg": "Case2007Test.test_post_uri_replaces_or_not",
    "POST_put_uri_no_replace_field": "Case2007Test.test_post_uri_replaces_or_not",
    "POST_delete": "SeedTest.test_post_delete",
    "POST_rename_file": "SeedTest.test_post_rename",
    "POST_rename_file_replace": "SeedTest.test_post_rename_replaces",
    "POST_rename_file_no_replace_queryarg": "Case2007Test.test_post_rename_replaces_or_not",
    "POST_rename_file_no_replace_field": "Case2007Test.test_post_rename_replaces_or_not",
    "POST_rename_file_slash_fail": "Case2007Test.test_post_rename_with_a_slash",
    "POST_rename_dir": "Case2007Test.test_post_rename_a_directory",
    # Others
    "XMLRPC": "MethodTest.test_put_and_get",
    "webpassword": "PasswordTest.test_digest",
}


class Case2007Test(GatewayCase):
    def setUp(self) -> None:
        self.root = self.new_directory()
        self.url = f"/uri/{self.root}"
        self.data = some_bytes(3_000)
        self.cap = self.put(f"{self.url}/a", self.data).text
        self.other = self.put("/uri", b"other").text

    def names(self, url: str | None = None) -> list[str]:
        return sorted(self.get(f"{url or self.url}?t=json").json[1]["children"])

    def body(self, name: str) -> bytes:
        return self.get(f"{self.url}/{name}").body

    def test_welcome(self) -> None:
        self.assertIn("/vdrive/private", self.assert_status(self.get("/"), 200).text)

    def test_get_what_is_missing(self) -> None:
        for t in ("", "?t=json", "?t=uri", "?t=readonly-uri", "?t=info", "?t=manifest"):
            for name in ("none", "none/deeper", "a/below-a-file"):
                self.assert_status(self.get(f"{self.url}/{name}{t}"), 404)
        self.assert_status(self.get(f"{self.url}/none?save=true"), 404)

    def test_get_uri(self) -> None:
        self.assertEqual(self.get(f"{self.url}/a?t=uri").text, self.cap)
        sub = self.put(f"{self.url}/sub?t=mkdir").text
        self.assertEqual(self.get(f"{self.url}/sub?t=uri").text, sub)
        readonly = self.get(f"{self.url}/sub?t=readonly-uri").text
        self.assertTrue(readonly.startswith("URI:DIR-RO:"))
        self.assertEqual(self.get(f"/uri/{readonly}?t=uri").text, readonly)

    def test_put_file_that_may_not_replace(self) -> None:
        for word in ("replace=false", "overwrite=false"):
            self.assert_status(self.put(f"{self.url}/a?{word}", b"new"), 409)
            self.assertEqual(self.body("a"), self.data)
            self.assert_status(self.put(f"{self.url}/{word[:7]}?{word}", b"new"), 201)

    def test_put_where_a_file_is_in_the_way(self) -> None:
        self.assert_status(self.put(f"{self.url}/a/b/c", b"new"), 400)
        self.assert_status(self.put(f"{self.url}/a/b?t=mkdir"), 400)
        self.assert_status(self.put(f"{self.url}/a/b?t=uri", self.other.encode()), 400)
        self.assertEqual(self.names(), ["a"])

    def test_put_mkdir(self) -> None:
        made = self.assert_status(self.put(f"{self.url}/x/y/z?t=mkdir"), 201).text
        self.put(f"{self.url}/x/y/z/inner", b"stays")
        for more in ("", "&replace=true", "&replace=false"):
            again = self.assert_status(self.put(f"{self.url}/x/y/z?t=mkdir{more}"), 200)
            self.assertEqual(again.text, made)
        self.assertEqual(self.names(f"{self.url}/x/y/z"), ["inner"])
        self.assert_status(self.put(f"{self.url}/a?t=mkdir"), 400)

    def test_put_unlinked_knows_no_other_t(self) -> None:
        for t in ("bogus", "uri", "upload", "json"):
            self.assert_status(self.put(f"/uri?t={t}", b"1"), 400)

    def test_put_nothing(self) -> None:
        cap = self.assert_status(self.put("/uri"), 201).text
        self.assertEqual(self.get(f"/uri/{cap}").body, b"")

    def test_delete_what_is_missing(self) -> None:
        for name in ("none", "none/deeper"):
            self.assert_status(self.delete(f"{self.url}/{name}"), 404)
        self.assert_status(self.post(self.url, t="delete", name="none"), 404)
        self.assert_status(self.post(self.url, t="delete"), 400)
        self.assertEqual(self.names(), ["a"])

    def test_delete_a_directory(self) -> None:
        sub = self.put(f"{self.url}/sub?t=mkdir").text
        self.put(f"{self.url}/sub/inner", b"1")
        self.assertEqual(self.delete(f"{self.url}/sub").text, sub)
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(self.get(f"/uri/{sub}/inner").body, b"1")

    def test_post_upload_replaces(self) -> None:
        self.assert_status(self.post(self.url, {"a": b"new"}, t="upload"), 200)
        self.assertEqual(self.body("a"), b"new")

    def test_post_upload_that_may_not_replace(self) -> None:
        for word in ("replace", "overwrite"):
            url = f"{self.url}?{word}=false"
            self.assert_status(self.post(url, {"a": b"new"}, t="upload"), 409)
            said = {word: "false"}
            self.assert_status(self.post(self.url, {"a": b"new"}, t="upload", **said), 409)
            self.assert_status(self.post(self.url, {word: b"new"}, t="upload", **said), 201)
        self.assertEqual(self.body("a"), self.data)

    def test_when_done(self) -> None:
        there = f"{self.url}/?from=here"
        made = self.post(self.url, {"u": b"1"}, t="upload", when_done=there)
        self.assertEqual((made.status, made.headers["Location"]), (303, there))
        made = self.post(self.url, t="mkdir", name="by-field", when_done=there)
        self.assertEqual((made.status, made.headers["Location"]), (303, there))
        url = f"{self.url}?when_done={quote(there, safe='')}"
        made = self.post(url, t="mkdir", name="by-argument")
        self.assertEqual((made.status, made.headers["Location"]), (303, there))
        self.assertEqual(self.names(), ["a", "by-argument", "by-field", "u"])

    def test_post_mkdir_where_something_is(self) -> None:
        self.put(f"{self.url}/sub/inner", b"stays")
        for name in ("sub", "a"):
            self.assert_status(self.post(self.url, t="mkdir", name=name), 409)
            self.assert_status(self.post(f"{self.url}?replace=false", t="mkdir", name=name), 409)
            said = {"t": "mkdir", "name": name, "replace": "false"}
            self.assert_status(self.post(self.url, **said), 409)
        self.assertEqual((self.body("a"), self.body("sub/inner")), (self.data, b"stays"))

    def test_post_uri_replaces_or_not(self) -> None:
        told = {"t": "uri", "name": "a", "uri": self.other}
        self.assert_status(self.post(f"{self.url}?replace=false", **told), 409)
        self.assert_status(self.post(self.url, **told, replace="false"), 409)
        self.assertEqual(self.body("a"), self.data)
        self.assert_status(self.post(self.url, **told), 200)
        self.assertEqual(self.body("a"), b"other")

    def test_post_rename_replaces_or_not(self) -> None:
        self.put(f"{self.url}/b", b"2")
        told = {"t": "rename", "from_name": "a", "to_name": "b"}
        self.assert_status(self.post(f"{self.url}?replace=false", **told), 409)
        self.assert_status(self.post(self.url, **told, replace="false"), 409)
        self.assertEqual((self.body("a"), self.body("b")), (self.data, b"2"))

    def test_post_rename_with_a_slash(self) -> None:
        for told in ({"from_name": "a", "to_name": "b/c"}, {"from_name": "x/a", "to_name": "b"}):
            self.assert_status(self.post(self.url, t="rename", **told), 400)
        self.assertEqual(self.names(), ["a"])

    def test_post_rename_a_directory(self) -> None:
        self.put(f"{self.url}/sub/inner", b"1")
        self.post(self.url, t="rename", from_name="sub", to_name="new")
        self.assertEqual(self.names(), ["a", "new"])
        self.assertEqual(self.body("new/inner"), b"1")


class TableTest(SynchronousTestCase):
    def test_every_case_is_there(self) -> None:
        modules = (test_checking, test_localfiles, test_password, test_seed_004, test_xmlrpc)
        missing = []
        for name, shown in CASES.items():
            of_class, test = shown.split(".")
            homes = [Case2007Test] if of_class == Case2007Test.__name__ else modules
            found = [getattr(home, of_class, home) for home in homes]
            if not any(callable(getattr(each, test, None)) for each in found):
                missing.append(name)
        self.assertEqual(missing, [])

    def test_every_case_here_is_in_the_table(self) -> None:
        cases = {f"Case2007Test.{name}" for name in vars(Case2007Test) if name.startswith("test_")}
        self.assertEqual(cases - set(CASES.values()), set())

    def test_every_form_is_accounted_for(self) -> None:
        for method in ("GET", "PUT", "POST", "DELETE"):
            self.assertTrue([name for name in CASES if name.startswith(f"{method}_")])
        for kind in [
            "_replace",
            "_no_replace",
            "mkdirs",
            "_disabled",
            "nonlocal",
            "nonabsolute",
            "missing",
        ]:
            self.assertTrue([name for name in CASES if kind in name], kind)
        for kind in ("localfile", "localdir", "whendone", "slash"):
            self.assertTrue([name for name in CASES if kind in name], kind)
