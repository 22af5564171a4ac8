"""The functions of ``/xmlrpc``, and what each takes.

``vdrivename`` is ``global``, ``private``, an alias, or a directory's cap; ``path`` is a path below
it, with slashes between names and nothing escaped; an empty one is the drive itself. Each does
what one request over HTTP does, by that request's action.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from inspect import getdoc, signature
from typing import Any

from attrs import field, frozen

from ampgrid.caps import ChkCap, LitCap, parse_cap
from ampgrid.immutable import FileNode, ToData
from ampgrid.vdrive.metadata import NOTHING
from ampgrid.vdrive.walking import walk
from ampgrid.web import checking, localcopies, operations, posting, reading, writing
from ampgrid.web.answers import Answer
from ampgrid.web.bodies import AnyGiven, GivenBody, GivenText, NoBody
from ampgrid.web.call import Call
from ampgrid.web.errors import TooLargeError
from ampgrid.web.found import found, found_directory
from ampgrid.web.nodejson import node_json
from ampgrid.web.places import URI, VDRIVE
from ampgrid.web.routing import Action, Target
from ampgrid.web.xmlrpc.envelope import BEGIN, END, base64_xml, item_xml, member_xml
from ampgrid.web.xmlrpc.faults import NO_SUCH_METHOD, WRONG_PARAMETERS, CallError

#: The largest file that `get` returns, bytes.
MOST_CONTENTS = 8 * 1024 * 1024
#: Base64 is made of so many bytes at once, a multiple of three.
_PIECE_BYTES = 48 * 1024
_PIECE_CHARACTERS = 16 * 1024

#: What a method returns that is sent while it is made: the XML of a whole answer, in pieces.
Pieces = AsyncIterator[str]


@frozen
class Method:
    """A function that can be called.

    Attributes:
        run: does it.
        takes: the types of its parameters.
        needed: how many of them have to be there.
        heavy: whether it holds contents in memory.
    """

    run: Callable[..., Awaitable[Any]] = field(repr=False)
    takes: Sequence[tuple[type, ...]]
    needed: int
    heavy: bool = False

    @property
    def signature(self) -> str:
        """Its parameters, as they are told to people."""
        names = list(signature(self.run).parameters)[1:]
        needed, others = names[: self.needed], names[self.needed :]
        return f"({', '.join(needed)}{''.join(f'[, {name}]' for name in others)})"

    def check(self, params: Sequence[Any]) -> None:
        """Check the parameters of a call.

        Raises:
            CallError: they do not fit.
        """
        if not self.needed <= len(params) <= len(self.takes):
            raise CallError(
                WRONG_PARAMETERS,
                f"its parameters are {self.signature}, and {len(params)} were given",
            )
        for number, (value, kinds) in enumerate(zip(params, self.takes, strict=False), 1):
            if type(value) not in kinds:
                told = " or ".join(_KINDS[kind] for kind in kinds)
                raise CallError(WRONG_PARAMETERS, f"parameter {number} has to be a {told}")


_KINDS = {str: "string", bytes: "base64", bool: "boolean", dict: "struct"}


def _within(
    call: Call,
    drive: str,
    path: str,
    method: str = "GET",
    body: AnyGiven | None = None,
    arguments: Mapping[str, str] | None = None,
) -> Call:
    """Return the call over HTTP that does the same; arguments without a value are left out."""
    names = path.removeprefix("/").split("/") if path.strip("/") else []
    word = URI if drive.startswith("URI:") else VDRIVE
    told = {name: value for name, value in (arguments or {}).items() if value}
    told["output"] = "json"
    target = Target(method, call.target.path, (word, drive, *names), told)
    return Call(call.gateway, target, call.admission, body or NoBody(), call.request)


async def _text(act: Action, call: Call) -> str:
    answer = await act(call)
    assert isinstance(answer, Answer)
    return answer.body.decode("utf-8")


async def _json(act: Action, call: Call) -> Any:
    return json.loads(await _text(act, call))


def _overwrite(overwrite: bool | None) -> dict[str, str]:
    return {} if overwrite is None else {"overwrite": str(overwrite).lower()}


# Looking.


async def listdir(call: Call, vdrivename: str, path: str = "") -> Pieces:
    """Return a dict of (childname -> [kind, facts]), as in t=json.

    What cannot be read is told under the empty name: ["problems", [line, ...]].
    """
    return _listing(await found_directory(_within(call, vdrivename, path)))


async def _listing(node: Any) -> Pieces:
    piece, problems = f"{BEGIN}<struct>", []
    async for page in node.pages():
        for name, each in page.children.items():
            piece += member_xml(name, node_json(each.node, each.metadata))
        problems += page.problems
        yield piece
        piece = ""
    if problems:
        piece += member_xml("", ["problems", problems])
    yield f"{piece}</struct>{END}"


async def stat(call: Call, vdrivename: str, path: str = "") -> Any:
    """Return [kind, facts] of a file or a directory, without its children."""
    here = await found(_within(call, vdrivename, path))
    return node_json(here.node, NOTHING if here.child is None else here.child.metadata)


async def get(call: Call, vdrivename: str, path: str = "") -> Pieces:
    """Return the contents (base64) of a file of up to 8 MiB."""
    here = await found(_within(call, vdrivename, path))
    if not isinstance(here.node, FileNode):
        raise CallError(400, "a directory is there; listdir tells what is in it")
    size = here.node.get_size()
    if size > MOST_CONTENTS:
        raise TooLargeError(
            f"the file has {size} bytes, and a call returns {MOST_CONTENTS} at most; "
            "GET it over HTTP, or get_localfile"
        )
    cap = parse_cap(here.node.get_uri())
    assert isinstance(cap, ChkCap | LitCap)
    core = call.gateway.core
    with call.gateway.jobs.under_way("download", None, size) as job:
        call.request.cancels(job.operation)
        if isinstance(cap, ChkCap):
            await core.settle(cap.needed, job.operation.check)
        target = ToData(MOST_CONTENTS)
        await core.downloader.download(cap, target, job.operation)
    return _contents(target.finish())


async def _contents(data: bytes) -> Pieces:
    yield f"{BEGIN}<base64>"
    for start in range(0, len(data), _PIECE_BYTES):
        # Whole groups of three bytes, so that the pieces are one text of base64.
        yield base64_xml(data[start : start + _PIECE_BYTES])[len("<base64>") : -len("</base64>")]
    yield f"</base64>{END}"


async def get_uri(call: Call, vdrivename: str, path: str = "") -> str:
    """Return the best cap of what is there."""
    return await _text(reading.cap, _within(call, vdrivename, path))


async def get_readonly_uri(call: Call, vdrivename: str, path: str = "") -> str:
    """Return the cap that only reads."""
    return await _text(reading.readonly_cap, _within(call, vdrivename, path))


# Changing.


async def put(
    call: Call,
    vdrivename: str,
    path: str,
    contents: str | bytes,
    overwrite: bool | None = None,
) -> str:
    """Store contents, link them, and return the URI; a string is stored as UTF-8."""
    inner = _within(
        call, vdrivename, path, "PUT", GivenBody(_bytes(contents)), _overwrite(overwrite)
    )
    return await _text(writing.put_file, inner)


def _bytes(contents: str | bytes) -> bytes:
    return contents if isinstance(contents, bytes) else contents.encode("utf-8", "replace")


async def put_unlinked(call: Call, contents: str | bytes) -> str:
    """Store contents that are in no directory, and return the URI."""
    inner = _within(call, "private", "", "PUT", GivenBody(_bytes(contents)))
    return await _text(writing.put_unlinked, inner)


async def mkdir(call: Call, vdrivename: str, path: str) -> str:
    """Make a directory and those on the way, and return the URI; one that is there stays."""
    return await _text(writing.make_directories, _within(call, vdrivename, path, "PUT"))


async def mkdir_unlinked(call: Call) -> str:
    """Make a directory that is in no other, and return the URI."""
    return await _text(writing.make_unlinked, _within(call, "private", "", "PUT"))


async def put_uri(
    call: Call, vdrivename: str, path: str, uri: str, overwrite: bool | None = None
) -> str:
    """Attach a file or a directory, and return the URI."""
    inner = _within(call, vdrivename, path, "PUT", GivenText(uri), _overwrite(overwrite))
    return await _text(writing.put_cap, inner)


async def delete(call: Call, vdrivename: str, path: str) -> str:
    """Take a name out of its directory, and return the URI that it stood for."""
    return await _text(writing.delete, _within(call, vdrivename, path, "DELETE"))


async def rename(
    call: Call,
    vdrivename: str,
    path: str,
    from_name: str,
    to_name: str,
    overwrite: bool | None = None,
) -> bool:
    """Rename within a directory, as mv -f does; return true."""
    told = {"from_name": from_name, "to_name": to_name, **_overwrite(overwrite)}
    inner = _within(call, vdrivename, path, "POST", arguments=told)
    await _text(posting.ACTIONS["rename"], inner)
    return True


# Files of this machine.


async def put_localfile(call: Call, vdrivename: str, path: str, localfilename: str) -> str:
    """Put a file of this machine, and return the URI."""
    inner = _within(call, vdrivename, path, "PUT", arguments={"localfile": localfilename})
    return await _text(localcopies.upload, inner)


async def get_localfile(call: Call, vdrivename: str, path: str, localfilename: str) -> bool:
    """Write a file to this machine; return true."""
    inner = _within(call, vdrivename, path, arguments={"localfile": localfilename})
    await _text(localcopies.download, inner)
    return True


async def put_localdir(call: Call, vdrivename: str, path: str, localdirname: str) -> Any:
    """Put all below a directory of this machine; return {files, directories, bytes, problems}."""
    inner = _within(call, vdrivename, path, "PUT", arguments={"localdir": localdirname})
    return await _json(localcopies.upload, inner)


async def get_localdir(call: Call, vdrivename: str, path: str, localdirname: str) -> Any:
    """Write all below a directory to this machine; return what was copied, as put_localdir."""
    inner = _within(call, vdrivename, path, arguments={"localdir": localdirname})
    return await _json(localcopies.download, inner)


# Upkeep.

_WISHES = {"verify": "verify", "repair": "repair", "add_lease": "add-lease"}


def _wished(options: Mapping[str, Any]) -> dict[str, str]:
    if not options.keys() <= _WISHES.keys() or not all(
        isinstance(value, bool) for value in options.values()
    ):
        raise CallError(
            WRONG_PARAMETERS, f"the options are booleans, by the names {', '.join(_WISHES)}"
        )
    return {_WISHES[name]: "true" for name, value in options.items() if value}


async def check(
    call: Call, vdrivename: str, path: str = "", options: Mapping[str, Any] | None = None
) -> Any:
    """Check a file or a directory; the options verify, repair, add_lease are booleans."""
    inner = _within(call, vdrivename, path, "POST", arguments=_wished(options or {}))
    return await _json(checking.check, inner)


async def start_deep_check(
    call: Call, vdrivename: str, path: str = "", options: Mapping[str, Any] | None = None
) -> str:
    """Begin to check all that a directory leads to, and return the handle."""
    handle = call.gateway.jobs.new_handle()
    inner = _within(
        call, vdrivename, path, "POST", arguments={"ophandle": handle, **_wished(options or {})}
    )
    await _text(checking.start_check, inner)
    return handle


def _handled(call: Call, handle: str) -> Call:
    target = Target("GET", call.target.path, ("operations", handle), {"output": "json"})
    return Call(call.gateway, target, call.admission, NoBody(), call.request)


async def operation(call: Call, handle: str) -> Any:
    """Tell how far an operation is, and what came of it."""
    return await _json(operations.tell, _handled(call, handle))


async def cancel(call: Call, handle: str) -> str:
    """Cancel an operation, and return its state."""
    return (await _text(operations.cancel, _handled(call, handle))).strip()


async def manifest(call: Call, vdrivename: str, path: str = "") -> Pieces:
    """Return a list of [path, cap] of all that a directory leads to."""
    return _manifest(call, await found_directory(_within(call, vdrivename, path)))


async def _manifest(call: Call, directory: Any) -> Pieces:
    with call.gateway.jobs.under_way("manifest") as job:
        call.request.cancels(job.operation)
        piece = f"{BEGIN}<array><data>"
        async for visit in walk(directory, job.operation):
            piece += item_xml(["/".join(visit.path), visit.node.get_uri()])
            if len(piece) >= _PIECE_CHARACTERS:
                yield piece
                piece = ""
    yield f"{piece}</data></array>{END}"


# What tells of the others.


async def list_methods(call: Call) -> list[str]:  # noqa: ARG001
    """Return the names of all methods."""
    return sorted(METHODS)


async def method_help(call: Call, name: str) -> str:  # noqa: ARG001
    """Return what a method takes and does."""
    method = method_of(name)
    return f"{name}{method.signature}: {getdoc(method.run)}"


_TEXT = (str,)
_BYTES = (bytes, str)
_FLAG = (bool,)
_OPTIONS = (dict,)

METHODS: Mapping[str, Method] = {
    "listdir": Method(listdir, (_TEXT, _TEXT), 1),
    "stat": Method(stat, (_TEXT, _TEXT), 1),
    "get": Method(get, (_TEXT, _TEXT), 1, heavy=True),
    "get_uri": Method(get_uri, (_TEXT, _TEXT), 1),
    "get_readonly_uri": Method(get_readonly_uri, (_TEXT, _TEXT), 1),
    "put": Method(put, (_TEXT, _TEXT, _BYTES, _FLAG), 3, heavy=True),
    "put_unlinked": Method(put_unlinked, (_BYTES,), 1, heavy=True),
    "mkdir": Method(mkdir, (_TEXT, _TEXT), 2),
    "mkdir_unlinked": Method(mkdir_unlinked, (), 0),
    "put_uri": Method(put_uri, (_TEXT, _TEXT, _TEXT, _FLAG), 3),
    "delete": Method(delete, (_TEXT, _TEXT), 2),
    "rename": Method(rename, (_TEXT, _TEXT, _TEXT, _TEXT, _FLAG), 4),
    "put_localfile": Method(put_localfile, (_TEXT, _TEXT, _TEXT), 3),
    "get_localfile": Method(get_localfile, (_TEXT, _TEXT, _TEXT), 3),
    "put_localdir": Method(put_localdir, (_TEXT, _TEXT, _TEXT), 3),
    "get_localdir": Method(get_localdir, (_TEXT, _TEXT, _TEXT), 3),
    "check": Method(check, (_TEXT, _TEXT, _OPTIONS), 1),
    "start_deep_check": Method(start_deep_check, (_TEXT, _TEXT, _OPTIONS), 1),
    "operation": Method(operation, (_TEXT,), 1),
    "cancel": Method(cancel, (_TEXT,), 1),
    "manifest": Method(manifest, (_TEXT, _TEXT), 1),
    "system.listMethods": Method(list_methods, (), 0),
    "system.methodHelp": Method(method_help, (_TEXT,), 1),
}


def method_of(name: str) -> Method:
    """Return a method by its name.

    Raises:
        CallError: there is none.
    """
    found_one = METHODS.get(name)
    if found_one is None:
        raise CallError(NO_SUCH_METHOD, "there is no such method; see system.listMethods")
    return found_one
