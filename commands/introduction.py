"""Commands of introduction: what introducers answer, and what they tell the introduced."""

from __future__ import annotations

from ampgrid.commands import errors as e
from ampgrid.commands.arguments import Blobs, Count, Exact, Octets, Text
from ampgrid.commands.base import GridCommand, error_map

#: The largest announcement, bytes, and how many go into one box.
MAX_ANNOUNCEMENT_BYTES = 800
MAX_ANNOUNCEMENTS_PER_BOX = 64


class Announce(GridCommand):
    """Announce oneself and subscribe to the announcements of the others.

    ``announcement`` is a signed announcement (`ampgrid.formats.announcement`) of the sender; an
    older sequence number than the one known loses silently. ``epoch`` and ``cursor`` are the
    last that the sender got from this introducer (zeros and 0 at first); what has changed since
    then follows in `NewPeers`. Of another epoch, everything follows.

    :answered-by: introducers
    :needs: Hello
    :bound: 1 KiB, answer 64 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [
        (b"announcement", Octets(MAX_ANNOUNCEMENT_BYTES)),
        (b"epoch", Exact(8)),
        (b"cursor", Count()),
    ]
    errors = error_map(e.BadAnnouncementError)


class NewPeers(GridCommand):
    """Tell what has changed since a cursor: announcements, gathered for a second.

    :answered-by: peers that have announced themselves to the caller
    :needs: Announce
    :bound: 52 KiB (64 announcements), answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [
        (b"epoch", Exact(8)),
        (b"cursor", Count()),
        (b"announcements", Blobs(MAX_ANNOUNCEMENTS_PER_BOX, MAX_ANNOUNCEMENT_BYTES)),
    ]


class SetEncodingParameters(GridCommand):
    """Advise k-of-n and happiness for files on this grid (seed 001's set_encoding_parameters).

    ``needed`` shares give a file back, ``total`` are made, and ``happy`` servers at least must
    hold them. A peer's own setting outranks it.

    :answered-by: peers that have announced themselves to the caller
    :needs: Announce
    :bound: 128 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [
        (b"needed", Count(256)),
        (b"happy", Count(256)),
        (b"total", Count(256)),
    ]


class SetPublicRoot(GridCommand):
    """Tell the cap of the grid's public root, once its introducer has made it.

    :answered-by: peers that have announced themselves to the caller
    :needs: Announce
    :bound: 400 bytes, answer 32 bytes
    :repeat: yes
    :since: 1
    """

    arguments = [(b"uri", Text(300))]
