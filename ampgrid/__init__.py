"""A peer-to-peer storage grid on AMP and Twisted.

Peers keep encrypted, erasure-coded shares for each other; any k of n shares give a file back,
and no peer can read or forge what it keeps. The rooms of this package are floors: a room imports
only from floors below it (`docs/development/floors.md`).
"""

from ampgrid._version import __version__

__all__ = ["__version__"]
