"""Names of the children of a directory.

One name has one spelling: Unicode's composed form (NFC). Everything else that a file system can
name is allowed, but for what would be a path or could not be shown.

Source: `docs/specs/directories.md#names`; Unicode Standard Annex #15.
"""

from __future__ import annotations

import unicodedata

from ampgrid.errors import BadNameError

#: The longest name, characters and bytes of UTF-8.
MAX_NAME_CHARACTERS = 255
MAX_NAME_BYTES = 1_020
#: No character decomposes into more than four, so no longer text composes to a name.
_MOST_DECOMPOSED = 4 * MAX_NAME_CHARACTERS


def checked_name(text: str) -> str:
    """Return the one spelling of a name.

    Args:
        text: the name as it was typed.

    Returns:
        1 to 255 characters, at most 1,020 bytes of UTF-8.

    Raises:
        BadNameError: it is empty or too long, ``.`` or ``..``, or holds a slash, a control
            character or half of a surrogate pair.
    """
    name = unicodedata.normalize("NFC", text) if len(text) <= _MOST_DECOMPOSED else text
    if not name:
        raise BadNameError("A name in a directory cannot be empty.")
    if len(name) > MAX_NAME_CHARACTERS:
        raise BadNameError(f"A name in a directory has at most {MAX_NAME_CHARACTERS} characters.")
    if name in (".", ".."):
        raise BadNameError("A name in a directory cannot be . or ..")
    if "/" in name:
        raise BadNameError("A name in a directory cannot hold a slash.")
    # What can be printed holds neither; it is the case nearly always, and quick to tell.
    if not name.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise BadNameError("A name in a directory cannot hold control characters.")
    return name
