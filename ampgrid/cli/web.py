"""``ampgrid web``: the node's web gateway in a browser."""

from __future__ import annotations

import html
import os
import webbrowser
from pathlib import Path

import click

from ampgrid.cli import console
from ampgrid.cli.params import json_option
from ampgrid.cli.session import Session
from ampgrid.errors import ConfigError, NotRunningError

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}"><title>ampgrid</title></head>
<body><p><a href="{link}" rel="noreferrer">Open the web gateway</a></p></body></html>
"""


@click.command()
@click.option("--no-browser", is_flag=True, help="Only print which file to open in a browser.")
@click.option(
    "--link", is_flag=True, help="Only print the link; whoever has it can change your files."
)
@json_option
@click.pass_obj
def web(session: Session, *, no_browser: bool, link: bool, as_json: bool) -> None:
    """Open the node's web gateway in a browser.

    The browser is given a file that only you can read. It leads to a link with the token by which
    the browser may change things, so the token is in no list of processes.
    """
    target = _link(session)
    if link:
        if as_json:
            console.print_json({"link": target})
        else:
            click.echo(target)
        return
    path = _write_page(session, target)
    opened = False
    if not no_browser:
        opened = webbrowser.open(path.as_uri())
    if as_json:
        console.print_json({"file": str(path), "opened": opened})
    elif not opened:
        click.echo(f"Open this file in a browser: {path}")


def _link(session: Session) -> str:
    from ampgrid.web.tokens import Tokens

    directory = session.directory
    directory.require()
    if (directory.web_port() or directory.load_config().web_port) == "none":
        raise ConfigError(
            f"This node has no web gateway: [web] port in {directory.config_path} is none."
        )
    # A node that was killed leaves the file, and whoever has the port now is not to be given
    # the token.
    url = directory.node_url() if directory.is_running() else None
    if url is None:
        raise NotRunningError(
            f"No web gateway runs for {directory.path}; start the node with: ampgrid -d DIR run"
        )
    return f"{url}enter?token={Tokens(directory.web_token(os.urandom)).link}"


def _write_page(session: Session, target: str) -> Path:
    from ampgrid.node.directory import write_whole

    path = session.directory.open_web_path
    write_whole(path, _PAGE.format(link=html.escape(target)).encode("utf-8"))
    return path
