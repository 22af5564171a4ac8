"""Errors of the gateway, and which status of HTTP each error of ampgrid becomes: in one place."""

from __future__ import annotations

from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    BadNameError,
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    BlobRefusedError,
    ChildExistsError,
    ConditionFailedError,
    ConfigError,
    FileChangedError,
    FileError,
    FormatError,
    GridError,
    IntegrityError,
    InvalidBlobError,
    InvalidFlagsError,
    NoRoomError,
    NoRootError,
    NoSuchChildError,
    NotDirectoryError,
    NotEnoughSharesError,
    NotMutableError,
    OperationCancelledError,
    PeerError,
    RemoteUnavailableError,
    StoreError,
    UsageError,
)


class WebError(AmpgridError):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        headers: what the answer carries beside, by name.
        guessed: whether it tells that a secret which was sent is wrong.
    """

    status = 400
    guessed = False

    def __init__(self, message: str, status: int | None = None, **headers: str) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class BadRequestError(WebError):
    """The request makes no sense."""


class ForbiddenError(WebError):
    """The gate does not let it in."""

    status = 403


class WrongTokenError(ForbiddenError):
    """The token that was sent is not this gateway's."""

    guessed = True


class NotFoundError(WebError):
    """Nothing is at that path."""

    status = 404


class NotAllowedError(WebError):
    """What is at that path does not know the method."""

    status = 405


class PreconditionError(WebError):
    """What is there is not what the client knew (If-Match, If-None-Match)."""

    status = 412


class TooLargeError(WebError):
    """The body is larger than what is taken there."""

    status = 413


class NoSpaceError(WebError):
    """The body finds no room in the spool."""

    status = 507


#: The first class that matches counts.
_STATUSES: tuple[tuple[type[AmpgridError], int], ...] = (
    (BlobNotFoundError, 404),
    (BlobAlreadyExistsError, 409),
    (BlobDeletedError, 410),
    (InvalidFlagsError, 406),
    (InvalidBlobError, 422),
    (BlobQuotaError, 507),
    (BlobRefusedError, 403),
    (RemoteUnavailableError, 503),
    (BadCapError, 400),
    (BadNameError, 400),
    (BadArgumentValueError, 400),
    (ConfigError, 503),
    (UsageError, 400),
    (NoSuchChildError, 404),
    (NoRootError, 404),
    (ChildExistsError, 409),
    (ConditionFailedError, 409),
    (NotDirectoryError, 400),
    (NotMutableError, 403),
    (NotEnoughSharesError, 410),
    (GridError, 503),
    (IntegrityError, 502),
    (FormatError, 502),
    (FileChangedError, 409),
    (FileError, 500),
    (NoRoomError, 507),
    (StoreError, 500),
    (PeerError, 503),
    (OperationCancelledError, 503),
)


def status_of(error: BaseException) -> int:
    """Return the status of HTTP for an error; 500 for what is a fault of the gateway."""
    if isinstance(error, WebError):
        return error.status
    return next((status for ours, status in _STATUSES if isinstance(error, ours)), 500)
