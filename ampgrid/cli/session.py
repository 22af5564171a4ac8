"""What all subcommands of one call of ``ampgrid`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from ampgrid.errors import BadArgumentValueError

if TYPE_CHECKING:
    from ampgrid.node.directory import NodeDirectory


@define
class Session:
    """One call of the command.

    Attributes:
        directory_path: the node directory that was named.
        as_json: whether results and errors are printed as JSON.
        debug: whether an unexpected error is shown with its traceback.
        stdout_closed: whether nobody could ever read what is printed.
    """

    directory_path: str = "~/.ampgrid"
    as_json: bool = False
    debug: bool = False
    stdout_closed: bool = False

    @property
    def directory(self) -> NodeDirectory:
        """The node directory."""
        from ampgrid.node.directory import NodeDirectory

        return NodeDirectory.at(self.directory_path)


def require_storage(session: Session) -> None:
    """Return if the node directory is that of a node that keeps shares.

    Raises:
        ConfigError: it is no node directory.
        BadArgumentValueError: its node keeps none.
    """
    directory = session.directory
    directory.require()
    if not directory.load_config().storage_enabled:
        raise BadArgumentValueError(
            f"The node in {directory.path} keeps no shares; name one that does: ampgrid -d DIR ..."
        )
