"""The one table from an error to the exit status of the command.

``docs/reference/exit-statuses.md`` is written from it; a test compares the two.
"""

from __future__ import annotations

from attrs import frozen

from ampgrid import errors
from ampgrid.commands import errors as wire


@frozen
class Exit:
    """One exit status.

    Attributes:
        status: the number.
        name: what scripts call it in the JSON of an error.
        meaning: what it tells the user.
        advice: what to do about it.
        causes: errors that end with it, and so do their subclasses unless they stand elsewhere.
    """

    status: int
    name: str
    meaning: str
    advice: str
    causes: tuple[type[BaseException], ...] = ()


DONE = Exit(0, "done", "All of it was done.", "Nothing.")
INTERNAL = Exit(
    1,
    "internal",
    "Something failed that should not.",
    "Look where the message points; report it if it stays.",
    (errors.AmpgridError, wire.InternalWireError, wire.NoSuchOperationError),
)
USAGE = Exit(
    2,
    "usage",
    "The command line is wrong: an option, a number, a missing argument.",
    "See `ampgrid COMMAND --help`.",
    (
        errors.UsageError,
        errors.BadArgumentValueError,
        errors.InvalidFlagsError,
        wire.BadArgumentError,
    ),
)
DIRECTORY = Exit(
    3,
    "node_directory",
    "The node directory, its `node.toml` or its store cannot be used.",
    "The message names the file and what to change.",
    (errors.ConfigError, errors.StoreError, wire.StoreFailedError),
)
UNREACHABLE = Exit(
    4,
    "unreachable",
    "The node, or the remote of blobs, does not run, cannot be reached, or went away.",
    "Start it with `ampgrid -d DIR run`, then try again.",
    (errors.PeerError, errors.RemoteUnavailableError),
)
NOT_ENOUGH_SHARES = Exit(
    5,
    "not_enough_shares",
    "Fewer good shares were found than the file needs.",
    "Try again when more of the peers are back; the message says how many were found.",
    (
        errors.NotEnoughSharesError,
        errors.NotStoredError,
        wire.NotEnoughSharesFoundError,
        wire.NoSuchShareError,
    ),
)
NOT_HAPPY = Exit(
    6,
    "not_happy",
    "Too few storage peers are connected, or too few of them have room for the shares.",
    "Connect more peers, or ask for less with `--shares`.",
    (
        errors.GridError,
        errors.NotEnoughPeersError,
        errors.NotHappyError,
        errors.NoRoomError,
        errors.BlobQuotaError,
        wire.NotHappyEnoughError,
        wire.NotEnoughPeersConnectedError,
        wire.NoSpaceError,
    ),
)
DAMAGED = Exit(
    7,
    "damaged",
    "What was found does not match its hashes, or cannot be decoded.",
    "Do not trust it; the message says what it was.",
    (errors.IntegrityError, errors.FormatError, errors.InvalidBlobError, wire.DamagedError),
)
LOCAL_FILE = Exit(
    8,
    "local_file",
    "A local file could not be read or written, or changed while it was read.",
    "The message names the file.",
    (errors.FileError, wire.FileFailedError, OSError),
)
BAD_NAME = Exit(
    9,
    "bad_cap_or_address",
    "The text is no cap, no `amp://` address, or one of a kind that does not fit.",
    "Copy it again, all of it.",
    (errors.BadCapError, errors.BadAddressError, wire.BadCapTextError),
)
UNHEALTHY = Exit(
    10,
    "unhealthy",
    "`check` and `deep-check`: the file can be had, but shares of it are missing, bad or on too "
    "few servers. `keeper run`: a file failed, or nobody was connected. `scrub`: shares were bad "
    "or missing. `import-tahoe`: containers were damaged, or other shares are in the place.",
    "`ampgrid check CAP --repair`, or wait for the keeper; the report names the shares.",
)
LOST = Exit(
    11,
    "not_recoverable",
    "`check`, `deep-check` and `keeper run`: too few shares of a file were found to give it "
    "back, or `deep-check` found a directory too damaged to be read.",
    "Try again when more of the peers are back; put the file again while you have it.",
)
PATH = Exit(
    12,
    "path",
    "A grid path leads nowhere, to something of another kind, or to what is not to be replaced.",
    "The message names the part of the path; `ampgrid ls` shows what is there.",
    (
        errors.NoSuchChildError,
        errors.ChildExistsError,
        errors.ConditionFailedError,
        errors.NotDirectoryError,
        errors.NoRootError,
        wire.NoSuchChildWireError,
        wire.ChildExistsWireError,
        wire.ConditionFailedWireError,
        wire.NotDirectoryWireError,
        wire.NoRootWireError,
    ),
)
DIRECTORY_UNREACHABLE = Exit(
    13,
    "directory_unreachable",
    "Too few replicas of a directory answered, or they do not agree yet; so also `check` and "
    "`deep-check`.",
    "Try again when more of the peers are back; nothing says that the directory is gone.",
    (
        errors.NotReachableError,
        errors.UndecidedError,
        errors.UncertainChangeError,
        errors.SnapshotGoneError,
        errors.MissingNodesError,
        wire.NotReachableWireError,
        wire.UndecidedWireError,
        wire.UncertainWireError,
        wire.SnapshotGoneWireError,
    ),
)
READ_ONLY = Exit(
    14,
    "read_only",
    "The cap gives no right to change the directory.",
    "Use its write cap (`URI:DIR:...`), or ask its owner.",
    (errors.NotMutableError, wire.NotMutableWireError),
)
BLOB = Exit(
    15,
    "blob",
    "There is no such blob, it was deleted, another has its name, or the remote refuses the user.",
    "The message says which; `ampgrid blob list` shows what is there.",
    (errors.BlobError,),
)
INTERRUPTED = Exit(
    130,
    "interrupted",
    "It was interrupted (Ctrl-C) or cancelled.",
    "Start it again.",
    (KeyboardInterrupt, errors.OperationCancelledError, wire.CancelledError),
)
BROKEN_PIPE = Exit(
    141,
    "broken_pipe",
    "The reader of the standard output went away; nothing is printed about it.",
    "Nothing, if that was meant, as with `head`.",
    (BrokenPipeError,),
)

#: All of them, in the order of their numbers.
EXITS = (
    DONE,
    INTERNAL,
    USAGE,
    DIRECTORY,
    UNREACHABLE,
    NOT_ENOUGH_SHARES,
    NOT_HAPPY,
    DAMAGED,
    LOCAL_FILE,
    BAD_NAME,
    UNHEALTHY,
    LOST,
    PATH,
    DIRECTORY_UNREACHABLE,
    READ_ONLY,
    BLOB,
    INTERRUPTED,
    BROKEN_PIPE,
)

_BY_CAUSE = {cause: each for each in EXITS for cause in each.causes}


def exit_of(error: BaseException) -> Exit:
    """Return how the command ends for ``error``: by its class, or the nearest base of it."""
    for kind in type(error).__mro__:
        if kind in _BY_CAUSE:
            return _BY_CAUSE[kind]
    return INTERNAL


def exit_table() -> str:
    """Return the table as Markdown, for the documentation."""
    lines = ["| status | name | meaning | what to do |", "|---|---|---|---|"]
    lines += [
        f"| {each.status} | `{each.name}` | {each.meaning} | {each.advice} |" for each in EXITS
    ]
    return "\n".join(lines) + "\n"
