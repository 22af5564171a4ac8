"""Files of this machine: whether, and which of them, the gateway may read and write.

Off unless the file ``webport_allow_localfile`` is in the node directory. Each of its lines names a
directory to which all is confined; if it has none, every file that the node's user may touch is
allowed. A request has to come from this machine, carry the token and name an absolute path;
whatever else is refused with 403, so that it tells nothing of what is there.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

from ampgrid.web.call import Call
from ampgrid.web.errors import ForbiddenError

_MOST_BYTES = 64 * 1024


class LocalFiles:
    """What is allowed, looked at anew with each request.

    Args:
        path: of the file ``webport_allow_localfile``; None if there can be none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def _roots(self) -> list[Path] | None:
        """Return the directories to which all is confined; None for no such bound.

        Raises:
            ForbiddenError: nothing is allowed.
        """
        try:
            if self._path is None:
                raise FileNotFoundError
            status = self._path.lstat()
            text = self._path.read_bytes()[:_MOST_BYTES].decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise ForbiddenError(
                "files of this machine are off: make the file webport_allow_localfile in the "
                "node directory; its lines confine them to directories"
            ) from None
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ForbiddenError("webport_allow_localfile is no file of the node's own user")
        if status.st_mode & 0o022:
            raise ForbiddenError("others can write webport_allow_localfile; run: chmod 600 on it")
        lines = [line.strip() for line in text.splitlines()]
        roots = [Path(line) for line in lines if line and not line.startswith("#")]
        return [Path(os.path.realpath(root)) for root in roots] if roots else None

    def require(self, call: Call) -> None:
        """Let a request in that may name files of this machine.

        Raises:
            ForbiddenError: it may not.
        """
        self._roots()
        peer = getattr(call.request.getClientAddress(), "host", "")
        try:
            near = ipaddress.ip_address(peer).is_loopback
        except ValueError:
            near = False
        if not near:
            raise ForbiddenError("files are read and written for programs of this machine alone")
        if not call.admission.has_token:
            raise ForbiddenError("this needs the token of the gateway (private/web-token)")

    def allowed(self, said: str) -> Path:
        """Return the path of a file that may be read or written; links on the way are followed.

        Others may put another link there before it is opened: who opens it follows none
        (`ampgrid.web.folders`).

        Raises:
            ForbiddenError: it is not absolute, or outside of what is allowed.
        """
        roots = self._roots()
        if not said.startswith("/") or "\0" in said:
            raise ForbiddenError("the path of a local file has to be absolute")
        given = Path(said)
        # The last part is looked at by who opens it: it may not be there yet.
        path = Path(os.path.realpath(given.parent)) / given.name if given.name else given
        if given.name in {"", ".", ".."}:
            path = Path(os.path.realpath(given))
        if roots is not None and not any(path == root or root in path.parents for root in roots):
            raise ForbiddenError("this path is outside of what webport_allow_localfile allows")
        return path
