"""Every exception of ampgrid that is not an answer on the wire.

The tree (the root and the branches are never raised themselves)::

    AmpgridError
    ├── UsageError                what the user typed or configured cannot be used
    │   ├── BadArgumentValueError   an option or a number
    │   ├── BadCapError             the text is no cap, or a cap of the wrong kind
    │   ├── BadAddressError         the text is no amp:// address
    │   └── ConfigError             node.toml or the node directory
    │       └── WrongKeyError         a key or passphrase is not the one of a store
    ├── IntegrityError            a hash or a signature does not hold; never retried
    ├── FormatError               bytes that cannot be decoded, or of an unknown version
    ├── FileError                 a local file could not be read or written
    │   └── FileChangedError        a file changed while it was being uploaded
    ├── StoreError                the local store of shares
    │   ├── NoRoomError             it would pass its quota or its reserve
    │   ├── NotStoredError          no such share or lease here
    │   ├── WriteConflictError      a write contradicts earlier bytes
    │   ├── OutOfRangeError         a write outside the allocated size
    │   ├── IncompleteError         a share was closed before all of it was written
    │   └── BrokenStoreError        the disk refused; the store accepts nothing until probed
    ├── GridError                 the grid could not do what was asked
    │   ├── NotEnoughPeersError     too few storage peers are connected
    │   ├── NotHappyError           shares could not be placed on enough servers
    │   └── NotEnoughSharesError    too few good shares were found
    ├── BlobError                 a blob could not be kept or had
    │   ├── BlobAlreadyExistsError  there is another blob of that name
    │   ├── BlobDeletedError        a blob of that name was deleted lately
    │   ├── BlobNotFoundError       there is none of that name
    │   ├── InvalidFlagsError       a flag that nobody knows
    │   ├── InvalidBlobError        its bytes are not what was put (an IntegrityError too)
    │   ├── BlobQuotaError          the remote has no room for this user
    │   ├── BlobRefusedError        the remote does not accept this user
    │   └── RemoteUnavailableError  the remote cannot be reached; try again
    ├── PeerError                 a conversation with a peer
    │   ├── NotConnectedError       there is no connection, or it was lost
    │   ├── CallTimeoutError        no answer within the deadline
    │   ├── RemoteProtocolError     the peer broke the protocol: abort
    │   ├── HandshakeError          TLS, the pin or Hello failed
    │   └── ampgrid.commands.errors.WireError and its leaves: errors that a peer answered
    └── OperationCancelledError   somebody cancelled the operation

The message of an exception is what the user reads: one sentence that says what happened and,
where it helps, what to do. It never holds a key, a cap or a secret.
"""


class AmpgridError(Exception):
    """The root of every error that ampgrid raises on purpose."""


class UsageError(AmpgridError):
    """What the user typed or configured cannot be used."""


class BadArgumentValueError(UsageError):
    """An option, a number or a name is out of range or malformed."""


class BadCapError(UsageError):
    """The text is no cap, or a cap of a kind that does not fit here."""


class BadNameError(UsageError):
    """The text cannot name a child of a directory."""


class BadAddressError(UsageError):
    """The text is no ``amp://`` address."""


class ConfigError(UsageError):
    """``node.toml`` or the node directory cannot be used as it is."""


class WrongKeyError(ConfigError):
    """A key or a passphrase is not the one that opens a store."""


class IntegrityError(AmpgridError):
    """A hash, a signature or a tag does not hold. Never retried on the same bytes."""


class FormatError(AmpgridError):
    """Bytes that cannot be decoded, or that are of an unknown version."""


class FileError(AmpgridError):
    """A local file could not be read or written."""


class FileChangedError(FileError):
    """A file changed between the two passes of an upload, which was refused for that."""


class StoreError(AmpgridError):
    """The local store of shares could not do what was asked."""


class NoRoomError(StoreError):
    """The store would pass its quota, its reserve or the room of the disk."""


class NotStoredError(StoreError):
    """There is no such share or lease in this store."""


class WriteConflictError(StoreError):
    """A write, or a whole share, contradicts earlier bytes of the same share."""


class OutOfRangeError(StoreError):
    """A write reaches outside the size that was allocated."""


class IncompleteError(StoreError):
    """A share was closed before every byte of it had been written; it was discarded."""


class BrokenStoreError(StoreError):
    """The disk failed; the store accepts nothing until a probe has passed."""


class GridError(AmpgridError):
    """The grid could not do what was asked."""


class NotEnoughPeersError(GridError):
    """Too few storage peers are connected."""


class NotHappyError(GridError):
    """The shares could not be placed on as many distinct servers as happiness asks."""


class NotEnoughSharesError(GridError):
    """Fewer good shares were found than are needed.

    Attributes:
        found: number of distinct good shares that were found.
        needed: number of distinct shares that the file needs (k).
    """

    def __init__(self, message: str, *, found: int = 0, needed: int = 0) -> None:
        super().__init__(message)
        self.found = found
        self.needed = needed


class NoSuchChildError(GridError, IndexError):
    """The directory has no child of that name (seed 001's IndexError)."""


class ChildExistsError(GridError):
    """The directory has a child of that name, and it was not to be replaced."""


class NotDirectoryError(GridError):
    """A path leads through something that is no directory, or a file was expected."""


class NotMutableError(GridError):
    """The cap gives no right to change the directory (seed 001's NotCapableError)."""


class NoRootError(GridError):
    """This node knows no such root directory."""


class ConditionFailedError(GridError):
    """A change was refused, since the directory is not as the change asks for."""


class NotReachableError(GridError):
    """Too few replicas of a directory answered; whether it exists is not known.

    Attributes:
        found: number of replicas that answered for it.
        wanted: number of replicas that it has, as far as known, else that must answer.
    """

    def __init__(self, message: str, *, found: int = 0, wanted: int = 0) -> None:
        super().__init__(message)
        self.found = found
        self.wanted = wanted


class UndecidedError(GridError):
    """A change is under way that nobody without the write cap can settle; try again."""


class UncertainChangeError(GridError):
    """A change may or may not have been made, and too much has happened since to tell."""


class SnapshotGoneError(GridError):
    """The version that was being read is gone; begin again with the present one."""


class ForkError(IntegrityError):
    """Two signed versions of a directory contradict each other; both are kept."""


class RolledBackError(IntegrityError):
    """The replicas show an older version of a directory than was seen before."""


class MissingNodesError(AmpgridError):
    """Nodes of a directory's trie are not at hand.

    Attributes:
        hashes: of all that are known to lack, each 32 bytes.
    """

    def __init__(self, hashes: tuple[bytes, ...]) -> None:
        super().__init__(f"{len(hashes)} nodes of a directory are not at hand")
        self.hashes = hashes


class BlobError(AmpgridError):
    """A blob could not be kept or had."""


class BlobAlreadyExistsError(BlobError):
    """There is another blob of that name already."""


class BlobDeletedError(BlobError):
    """A blob of that name was deleted lately, and deleting wins."""


class BlobNotFoundError(BlobError):
    """There is no blob of that name."""


class InvalidFlagsError(BlobError):
    """A flag that is none of PENDING, PROCESSING, PROCESSED and FAILED."""


class InvalidBlobError(BlobError, IntegrityError):
    """The bytes of a blob are not those that were put."""


class BlobQuotaError(BlobError):
    """The remote has no room left for this user."""


class BlobRefusedError(BlobError):
    """The remote does not accept this user or token."""


class RemoteUnavailableError(BlobError):
    """The remote could not be reached, or broke off; the same may work later."""


class PeerError(AmpgridError):
    """A conversation with a peer failed."""


class NotConnectedError(PeerError):
    """There is no connection to that peer, or it was lost."""


class NotRunningError(NotConnectedError):
    """No node runs in that directory."""


class CallTimeoutError(PeerError):
    """A peer did not answer within the deadline."""


class RemoteProtocolError(PeerError):
    """A peer broke the protocol; its connection is aborted."""


class HandshakeError(PeerError):
    """TLS, the pin or Hello failed, so there is no connection."""


class OperationCancelledError(AmpgridError):
    """Somebody cancelled the operation."""
