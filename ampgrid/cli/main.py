"""The command ``ampgrid``."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ampgrid._version import __version__
from ampgrid.cli import console, exits
from ampgrid.cli.session import Session
from ampgrid.errors import AmpgridError, FileError
from ampgrid.lazily import postpone

#: subcommand -> (module, function, one line of help). The line stands here too so that the list
#: of subcommands is printed without importing any; a test compares it with the function's.
SUBCOMMANDS = {
    "create-introducer": ("create", "create_introducer", "Make the directory of an introducer."),
    "create-node": ("create", "create_node", "Make the directory of a node."),
    "run": ("run", "run", "Run the node in the foreground."),
    "web": ("web", "web", "Open the node's web gateway in a browser."),
    "status": ("status", "status", "Tell how the running node fares, and its peers."),
    "address": ("status", "address", "Print the node's address."),
    "put": ("files", "put", "Upload FILE and print its cap."),
    "get": ("files", "get", "Download a file by its CAP or from its PATH in the grid."),
    "mkdir": ("changing", "mkdir", "Make an empty directory in the grid."),
    "ls": ("listing", "ls", "List a directory of the grid."),
    "cp": ("copying", "cp", "Copy files into the grid, out of it, or within it."),
    "mv": ("changing", "mv", "Move or rename within the grid."),
    "rm": ("changing", "rm", "Take names out of their directories."),
    "ln": ("changing", "ln", "Link a file or a directory of the grid under another name."),
    "tree": ("deep", "tree", "Print all that a directory leads to, as a tree."),
    "manifest": (
        "deep",
        "manifest",
        "Print the cap and the path of all that a directory leads to.",
    ),
    "du": ("deep", "du", "Tell how much a directory leads to: files, directories, sizes."),
    "deep-check": (
        "deep_check",
        "deep_check",
        "Check all that a directory leads to, and repair it.",
    ),
    "alias": ("aliases", "alias", "Give directories names of this node's own."),
    "recover-directory": (
        "recovering",
        "recover_directory",
        "Bring a directory back of which too few replicas are left.",
    ),
    "backup": ("backup", "backup", "Make a dated snapshot of DIR under PATH in the grid."),
    "restore": ("restore", "restore", "Bring a snapshot, or any directory of the grid, back."),
    "blob": ("blob", "blob", "Keep blobs here and, enciphered, at a remote."),
    "check": ("check", "check", "Tell how a file or a directory fares: what of it is where."),
    "kept": ("kept", "kept", "Tell which files the node keeps, or drop some."),
    "keeper": ("kept", "keeper", "Look after the files that the node keeps."),
    "cap": ("cap", "cap", "Print the cap that an upload of FILE would give."),
    "recovery": (
        "recovery",
        "recovery",
        "Bring a lost node back: its key, secrets and kept list in a file.",
    ),
    "scrub": (
        "scrub",
        "scrub",
        "Hash every share of this node's store now, and set bad ones aside.",
    ),
    "import-tahoe": (
        "shares",
        "import_tahoe",
        "Take the shares of a Tahoe-LAFS storage directory into this node's store.",
    ),
    "export-share": (
        "shares",
        "export_share",
        "Write the bytes of a share of this node's store to a file.",
    ),
    "grid": ("grid", "grid", "Run a whole grid on this machine, in DIR."),
    "demo": ("demo", "demo", "Show it all, with two nodes killed between up and down."),
}

#: Set by the shell while it completes a command line.
_COMPLETE = "_AMPGRID_COMPLETE"
#: Options of ``ampgrid`` itself.
_BEFORE = {"-d", "--directory", "--debug"}


class _LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        # Twisted imports it, and email, HTTP and URLs with it, for programs that ask for it there.
        postpone("http", "cookiejar")
        module, function, _ = SUBCOMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"ampgrid.cli.{module}"), function)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of subcommands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in SUBCOMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AMPGRID"},
)
@click.option(
    "-d",
    "--directory",
    metavar="DIR",
    envvar="AMPGRID_DIR",
    default="~/.ampgrid",
    show_default=True,
    help="The node directory (also from AMPGRID_DIR).",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.version_option(__version__, prog_name="ampgrid", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, directory: str, debug: bool) -> None:
    """A peer-to-peer storage grid.

    Peers keep encrypted, erasure-coded shares for each other; any k of n shares give a file
    back, and no peer can read or forge what it keeps.

    Start with 'ampgrid demo'.
    """
    session = context.ensure_object(Session)
    session.directory_path = directory
    session.debug = debug
    # What they print is no result: a service may run them so.
    if session.stdout_closed and context.invoked_subcommand not in {"run", "grid"}:
        raise FileError(
            "The standard output is closed, so nothing was done; send it to a file, or to "
            "/dev/null."
        )


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; never raises.

    Args:
        arguments: what follows ``ampgrid``; None for those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    session = Session(stdout_closed=not console.fill_standard_streams())
    # A name that the terminal's encoding lacks is no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if instruction := os.environ.get(_COMPLETE):
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, "ampgrid", _COMPLETE, instruction)
        # Not cli.main(), which has its own way with errors.
        with cli.make_context("ampgrid", words, obj=session) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        # --help and --version end so.
        return end.exit_code
    except BaseException as error:  # noqa: BLE001 - the last place that can tell the user
        return _ended(error, session, as_json=session.as_json or "--json" in words).status
    return exits.DONE.status


def _ended(error: BaseException, session: Session, *, as_json: bool) -> exits.Exit:
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        console.report(exits.INTERRUPTED, "Interrupted.", as_json=as_json)
        return exits.INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return exits.USAGE
    if isinstance(error, click.ClickException):
        console.report(exits.USAGE, _usage_message(error), as_json=as_json)
        return exits.USAGE
    if _is_broken_pipe(error) or (isinstance(error, AmpgridError) and console.stdout_is_gone()):
        # Python would complain about what it cannot flush at its end.
        _forget_stdout()
        return exits.BROKEN_PIPE
    if console.unwritten():
        _forget_stdout()
    if isinstance(error, OSError) and _is_of_printing(error):
        error = FileError(f"The standard output could not be written: {error.strerror}.")
    if isinstance(error, AmpgridError | OSError):
        if session.debug:
            import traceback

            traceback.print_exception(error)
        return console.report_error(error, as_json=as_json)
    return console.report_unexpected(error, as_json=as_json, debug=session.debug)


def _forget_stdout() -> None:
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_of_printing(error: OSError) -> bool:
    """Tell whether it was raised by what prints: the error itself names no file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or error.filename is not None:
        return False
    frame = trace.tb_frame
    return frame.f_code is click.echo.__code__ or frame.f_code is invoke.__code__


def _is_broken_pipe(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _usage_message(error: click.ClickException) -> str:
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "ampgrid"
    option = error.option_name if isinstance(error, click.NoSuchOption) else ""
    if option in _BEFORE and path != "ampgrid":
        own = path.removeprefix("ampgrid ")
        value = " DIR" if option != "--debug" else ""
        return f"{option} stands before the command: ampgrid {option}{value} {own}"
    return f"{error.format_message()} (See '{path} --help'.)"


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(invoke())
