"""Which names of a large directory one page shows.

Browsers get a page of some names, with links to the other pages. Programs that walk links
(wget, rclone) do not all follow links with arguments: they get every name, as a link and no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ampgrid.web.errors import BadRequestError

#: Names that one page shows.
PAGE_NAMES = 500
_MOST_DIGITS = 9


@frozen
class Sheet:
    """One page of a listing.

    Attributes:
        number: of the page, from 1.
        pages: how many there are.
        start: index of its first name, from 0.
        end: index behind its last one.
        total: names on all pages.
    """

    number: int
    pages: int
    start: int
    end: int
    total: int

    @property
    def others(self) -> Sequence[tuple[str, int]]:
        """(what people call it, number) of the pages that can be gone to from here."""
        steps = [("First", 1), ("Previous", self.number - 1), ("Next", self.number + 1)]
        steps.append(("Last", self.pages))
        shown = [step for step in steps if 1 <= step[1] <= self.pages and step[1] != self.number]
        # The first and the last are named where they are not the neighbours.
        return [s for s in shown if s[0] in {"Previous", "Next"} or abs(s[1] - self.number) > 1]


def sheet_of(said: str | None, total: int) -> Sheet:
    """Return the page that ``page=`` asks for; the last one for any behind it.

    Args:
        said: the argument; None for the first page.
        total: names in the directory.

    Raises:
        BadRequestError: it is no number of a page.
    """
    number = 1
    if said:
        if not (said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS and int(said)):
            raise BadRequestError("page= is the number of a page, from 1")
        number = int(said)
    pages = max(1, -(-total // PAGE_NAMES))
    number = min(number, pages)
    start = (number - 1) * PAGE_NAMES
    return Sheet(number, pages, start, min(start + PAGE_NAMES, total), total)
