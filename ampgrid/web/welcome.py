"""The page at ``/``, and the way in for a browser that ``ampgrid web`` opens."""

from __future__ import annotations

from ampgrid.crypto.identity import node_id_text
from ampgrid.web.answers import HTML, Answer, page
from ampgrid.web.call import Call
from ampgrid.web.errors import WrongTokenError


async def welcome(call: Call) -> Answer:
    """Return the page at ``/``: where the drives are, and a place to paste a cap."""
    core = call.gateway.core
    made = call.gateway.pages.made(
        "welcome.html",
        call,
        node_id=node_id_text(core.node_id),
        has_public=core.drive.public.cap is not None,
        aliases=[name for name, _ in core.drive.aliases.sound()],
        storage_peers=len(core.servers()),
    )
    return page(made)


async def enter(call: Call) -> Answer:
    """Take the token of a link, give the cookie for it, and lead to ``/``.

    Led by a page and not by a redirect: what a browser is redirected to counts as asked for by
    whoever began, which is not this gateway, so the cookie would not be sent.

    Raises:
        WrongTokenError: it is not the token of this gateway.
    """
    if not call.gateway.tokens.is_link(call.arg("token") or ""):
        raise WrongTokenError("this link is not of this gateway; open it with: ampgrid web")
    cookie = f"{call.cookie_name}={call.gateway.tokens.cookie}; Path=/; HttpOnly; SameSite=Strict"
    if call.request.isSecure():
        cookie += "; Secure"
    made = call.gateway.pages.made("enter.html")
    return Answer(made.encode("utf-8"), 200, HTML, {"Set-Cookie": cookie})
