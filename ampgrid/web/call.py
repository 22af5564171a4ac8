"""What an action gets: what was asked, its body, and the gateway that it works for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from ampgrid.web.bodies import FileBody, NoBody, TextBody
from ampgrid.web.errors import BadRequestError, ForbiddenError, WrongTokenError
from ampgrid.web.forms import FieldsForm, FilesForm
from ampgrid.web.gate import Admission
from ampgrid.web.jobs import Job
from ampgrid.web.routing import Target
from ampgrid.web.tokens import FIELD

if TYPE_CHECKING:
    from ampgrid.web.gateway import Gateway
    from ampgrid.web.request import GatewayRequest

#: A body: it is fed by `add` and ended by `complete`, both of which raise `WebError` for what they
#: refuse, and `close` lets go of it.
AnyBody = NoBody | TextBody | FileBody | FieldsForm | FilesForm

_TRUE = frozenset({"true", "t", "1", "yes", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "off"})

T = TypeVar("T")


class Call:
    """One request, as an action sees it.

    Attributes:
        gateway: what it works for.
        target: what the first line asks for.
        admission: how it was let in.
        body: what came behind the head.
        request: the connection's side of it, for what is streamed.
    """

    def __init__(
        self,
        gateway: Gateway,
        target: Target,
        admission: Admission,
        body: AnyBody,
        request: GatewayRequest,
    ) -> None:
        self.gateway = gateway
        self.target = target
        self.admission = admission
        self.body = body
        self.request = request

    @property
    def form(self) -> FieldsForm | FilesForm | None:
        """The form in the body, if one is there."""
        return self.body if isinstance(self.body, FieldsForm | FilesForm) else None

    def arg(self, name: str) -> str | None:
        """Return an argument: of the path, else of the form; None without it."""
        found = self.target.arguments.get(name)
        if found is None and self.form is not None:
            found = self.form.fields.get(name)
        return found

    def need(self, name: str) -> str:
        """Return an argument that must be there.

        Raises:
            BadRequestError: it is not, or empty.
        """
        found = self.arg(name)
        if not found:
            raise BadRequestError(f"the argument {name}= is missing")
        return found

    def under_way(self, kind: str, size: int | None = None) -> AbstractContextManager[Job]:
        """Give the job of this request, under the handle that ``ophandle=`` gives.

        Raises:
            BadRequestError: the handle is malformed, or in use.
        """
        handle, begun = self.arg("ophandle"), self.request.take_begun()
        return self.gateway.jobs.under_way(kind, handle, size, begun=begun)

    @property
    def t(self) -> str:
        """What is done with what is at the path: the argument ``t``."""
        return (self.arg("t") or "").strip()

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value: ``true``, ``t``, ``1``, ``false``, ``f``, ``0``, in any case.

        Raises:
            BadRequestError: it is none of these.
        """
        said = self.arg(name)
        if said is None or said == "":
            return default
        word = said.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise BadRequestError(f"{name}= is true or false")

    def wants(self) -> str:
        """Return what the answer shall be: ``html``, ``json`` or ``text``.

        ``output=`` says so, else the header Accept; a script that says nothing gets ``text``.

        Raises:
            BadRequestError: ``output=`` is none of these.
        """
        said = (self.arg("output") or "").strip().lower()
        if said:
            if said not in {"html", "json", "text"}:
                raise BadRequestError("output= is html, json or text")
            return said
        return self.request.accepted()

    @property
    def cookie_name(self) -> str:
        """Name of the cookie: browsers tell no ports apart, so the port is in it."""
        return f"ampgrid-{self.admission.port}"

    @property
    def form_token(self) -> str:
        """The token for the forms of a page; empty for a browser that may only look.

        A browser may do more that was opened by ``ampgrid web``, or that gave the password.
        """
        tokens = self.gateway.tokens
        cookie = self.request.received_cookies.get(self.cookie_name.encode("ascii"), b"")
        knows = self.gateway.password is not None or tokens.is_cookie(cookie.decode("latin-1"))
        return tokens.form if knows or not self.admission.browser else ""

    def require_token(self) -> None:
        """Check the token in the form, where one is needed.

        Raises:
            ForbiddenError: it is missing or another.
        """
        if not self.admission.needs_token:
            return
        given = self.form.fields.get(FIELD, "") if self.form is not None else ""
        if not self.gateway.tokens.allows(given):
            raise (WrongTokenError if given else ForbiddenError)(
                "the form does not hold the token of this gateway; open it again: ampgrid web"
            )
