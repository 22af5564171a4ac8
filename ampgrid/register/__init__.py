"""The register that holds a directory's record: pure state machines, no I/O, no clock.

`acceptor` is what a replica keeps; `writer` and `reader` are what a client does; `memory` is what
it remembers; `recovery` judges whether a register that lost its quorum may be brought back.
`words` are what they say to each other. They are driven alike by the node and by the model check
in ``tests/model``.

Spec: ``docs/specs/register.md``.
"""

__all__ = ["acceptor", "membership", "memory", "reader", "recovery", "words", "writer"]
