"""A directory of the grid, by its cap (seed 001's IDirectoryNode): what changes it.

What a change depends on is judged on the base of that change, so of several who race for one
name exactly one wins. What reads is in `ampgrid.vdrive.dirreader`.

Of a read-only node every child is read-only too, at any depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from ampgrid.caps import Cap
from ampgrid.errors import (
    AmpgridError,
    BadArgumentValueError,
    BadCapError,
    ChildExistsError,
    ConditionFailedError,
    FormatError,
    IntegrityError,
    NotMutableError,
)
from ampgrid.formats.names import checked_name
from ampgrid.immutable import Encoding, FileNode, Operation, Uploadable
from ampgrid.vdrive import metadata as about
from ampgrid.vdrive.children import (
    FoundChild,
    Link,
    Linkable,
    LinkableCap,
    linkable,
    size_of,
)
from ampgrid.vdrive.dirreader import Child, DirectoryReader, Listing, no_such
from ampgrid.vdrive.metadata import Metadata
from ampgrid.vdrive.ports import Changes, Lookup, Plan

__all__ = ["Addable", "Child", "DirectoryNode", "Listing"]

#: What `DirectoryNode.set_children` takes for one name.
Addable: TypeAlias = "Link | Linkable | Cap | str"

#: Told what has a name now, None for nothing; raises where that is not to be replaced.
Allow: TypeAlias = Callable[["Child | None"], None]

#: The same of what is in a slot, sealed: name, slot and entry.
_Judge: TypeAlias = Callable[[str, bytes, "bytes | None"], None]

#: More entries than these are sealed in a thread; for few the way there would take longer.
_SEALED_AT_ONCE = 32


class _DeclinedError(ConditionFailedError):
    """A plan does not go on: what it found on its base is against it."""

    def __init__(self, reason: AmpgridError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class DirectoryNode(DirectoryReader):
    """A directory of the grid.

    Args:
        cap: what gives it; whether it can be changed is decided by it.
        maker: makes the nodes of its children.
    """

    def read_only(self) -> DirectoryNode:
        """Return the node that only reads; itself, if this one does."""
        if not self.is_mutable():
            return self
        return DirectoryNode(self._cap.get_readonly(), self._maker)

    # Adding.

    async def set_uri(
        self,
        name: str,
        child_uri: str | Cap,
        metadata: Metadata | None = None,
        *,
        overwrite: bool = True,
    ) -> None:
        """Link a file or a directory by its cap; a child of that name is replaced.

        Args:
            name: of the child.
            child_uri: what gives it.
            metadata: what to say of it; left out, what was said of the child it replaces
                stays, but for what is known anew. ``created`` stays in any case, unless given.
            overwrite: False to refuse where there is a child of that name.

        Raises:
            NotMutableError: this node only reads; so with everything below that changes.
            ChildExistsError: there is one, and it was not to be replaced.
            BadCapError: it is no cap of something that can be read.
        """
        await self.set_children({name: Link(child_uri, metadata)}, overwrite=overwrite)

    async def set_node(
        self,
        name: str,
        child: FileNode | DirectoryNode,
        metadata: Metadata | None = None,
        *,
        overwrite: bool = True,
    ) -> FileNode | DirectoryNode:
        """Link a file or a directory, and return it (see `set_uri`)."""
        await self.set_children({name: Link(child, metadata)}, overwrite=overwrite)
        return child

    async def set_children(
        self, children: Mapping[str, Addable], *, overwrite: bool = True
    ) -> None:
        """Link several children in one atomic change: all of them, or none.

        Args:
            children: by name, each a cap, a node, or a `Link` of one with metadata.
            overwrite: False to refuse where there is a child of one of these names.

        Raises:
            ChildExistsError: there is one, and it was not to be replaced.
        """

        def judge(name: str, _slot: bytes, sealed: bytes | None) -> None:
            if sealed is not None and not overwrite:
                raise _DeclinedError(_exists(name))

        await self._link(children, judge)

    async def replace_child(self, name: str, child: Linkable | Cap | str, allow: Allow) -> bool:
        """Link a file or a directory if what has its name may be replaced (see `set_uri`).

        Args:
            name: of the child.
            child: what is linked.
            allow: asked on the base of the change, so nothing comes in between; asked again
                where that was not the last one.

        Returns:
            Whether a child of that name was replaced.

        Raises:
            AmpgridError: what ``allow`` raised; or what has the name is damaged.
        """
        replaced = False

        def judge(_name: str, slot: bytes, sealed: bytes | None) -> None:
            nonlocal replaced
            before = None if sealed is None else self._child(self._sealer.open(slot, sealed))
            try:
                allow(before)
            except AmpgridError as error:
                raise _DeclinedError(error) from None
            replaced = before is not None

        await self._link({name: child}, judge)
        return replaced

    async def _link(self, children: Mapping[str, Addable], judge: _Judge) -> None:
        self._require_mutable()
        links: dict[bytes, tuple[str, LinkableCap, Metadata | None]] = {}
        for given, what in children.items():
            name = checked_name(given)
            link = what if isinstance(what, Link) else Link(what)
            said = None if link.metadata is None else about.checked(link.metadata)
            slot = self._sealer.slot_of(name)
            if slot in links:
                raise BadArgumentValueError(f"two children are to have one name, {name!r}")
            links[slot] = (name, linkable(link.child), said)

        async def plan(lookup: Lookup) -> Changes:
            found = await lookup(tuple(links))
            now = self._maker.wall()
            for slot, (name, _cap, _said) in links.items():
                judge(name, slot, found[slot])

            def seal_all() -> Changes:
                changes: dict[bytes, bytes] = {}
                for slot, (name, cap, said) in links.items():
                    before = self._said(slot, found[slot])
                    told = about.of_child(
                        name, size=size_of(cap), now=now, given=said, before=before
                    )
                    changes[slot] = self._sealer.seal(name, cap, told)
                return changes

            if len(links) <= _SEALED_AT_ONCE:
                return seal_all()
            return await self._maker.threads.run(seal_all)

        if links:
            await self._change(plan, tuple(links))

    async def add_file(
        self,
        name: str,
        uploadable: Uploadable,
        metadata: Metadata | None = None,
        *,
        overwrite: bool = True,
        encoding: Encoding | None = None,
        operation: Operation | None = None,
    ) -> FileNode:
        """Upload a file, then link it; returns it. The caller closes what was uploaded.

        Args:
            name: of the child.
            uploadable: what is uploaded.
            metadata: what to say of it (see `set_uri`).
            overwrite: False to refuse where there is a child of that name; looked at before
                the upload, and again when it is linked.
            encoding: k, happiness and n; the node's own if left out.
            operation: progress and cancelling of the upload.

        Raises:
            ChildExistsError: there is one, and it was not to be replaced.
            NotHappyError: the file's shares could not be placed; nothing was linked.
        """
        self._require_mutable()
        said = None if metadata is None else about.checked(metadata)
        if not overwrite:
            await self._require_free(name)
        else:
            checked_name(name)
        maker = self._maker
        uploaded = await maker.uploader.upload(
            uploadable,
            encoding or maker.encoding(),
            operation or Operation(),
            inline=encoding is None,
        )
        await self.set_uri(name, uploaded.cap, said, overwrite=overwrite)
        return FileNode(uploaded.cap, maker.downloader)

    async def create_empty_directory(
        self, name: str, metadata: Metadata | None = None, *, overwrite: bool = False
    ) -> DirectoryNode:
        """Make an empty directory, link it, and return it.

        Args:
            name: of the child.
            metadata: what to say of it (see `set_uri`).
            overwrite: True to replace a child of that name; whatever was linked below a
                directory that is replaced may not be found any more.

        Raises:
            ChildExistsError: there is one, and it was not to be replaced.
            NotEnoughPeersError: no peer keeps directories.
        """
        self._require_mutable()
        if not overwrite:
            # A directory that is then not linked would be made in vain.
            await self._require_free(name)
        else:
            checked_name(name)
        made = await self._maker.create_directory()
        try:
            await self.set_node(name, made, metadata, overwrite=overwrite)
        except ChildExistsError:
            # Nobody will find it: what keeps it is given up at once.
            await made.abandon()
            raise
        return made

    # Taking out and moving.

    async def delete(self, name: str) -> Child | None:
        """Take a child out, and return it as it was. What it names is not deleted.

        Returns:
            The child; None if its entry was damaged and told nothing.

        Raises:
            NoSuchChildError: there is none of that name.
        """
        self._require_mutable()
        name = checked_name(name)
        slot = self._sealer.slot_of(name)
        removed: dict[str, FoundChild] = {}

        async def plan(lookup: Lookup) -> Changes:
            sealed = (await lookup([slot]))[slot]
            if sealed is None:
                raise _DeclinedError(no_such(name))
            # A plan may be asked again when the change was made already: what was there stays.
            removed.pop(name, None)
            with suppress(IntegrityError, FormatError, BadCapError):
                removed[name] = self._sealer.open(slot, sealed)
            return {slot: None}

        await self._change(plan, [slot])
        return self._child(removed[name]) if removed else None

    async def move_child_to(
        self,
        current_child_name: str,
        new_parent: DirectoryNode,
        new_child_name: str | None = None,
        *,
        overwrite: bool = True,
    ) -> None:
        """Move a child to another directory, or to another name in this one.

        Within one directory it is one atomic change. To another it is linked there before it
        is unlinked here, so it may for a moment, or after an error, be in both, and is never
        in none; if meanwhile somebody else has put something in its old place, that stays.
        What is told of the child goes along.

        Args:
            current_child_name: in this directory.
            new_parent: where it goes.
            new_child_name: there; the same if left out.
            overwrite: False to refuse where there is a child of the new name.

        Raises:
            NoSuchChildError: there is no such child here.
            ChildExistsError: there is one there, and it was not to be replaced.
            BadArgumentValueError: a directory would be moved into itself.
        """
        old = checked_name(current_child_name)
        new = old if new_child_name is None else checked_name(new_child_name)
        self._require_mutable()
        new_parent._require_mutable()
        if new_parent.index == self.index:
            await self._rename(old, new, overwrite=overwrite)
            return
        child = await self.get_child(old)
        if isinstance(child.node, DirectoryNode) and child.node.index == new_parent.index:
            raise BadArgumentValueError(f"{old!r} cannot be moved into itself")
        said = about.renamed(child.metadata, old, new)
        await new_parent.set_node(new, child.node, said, overwrite=overwrite)
        await self._delete_if(old, child.node.get_uri())

    async def _rename(self, old: str, new: str, *, overwrite: bool) -> None:
        before, after = self._sealer.slot_of(old), self._sealer.slot_of(new)

        async def plan(lookup: Lookup) -> Changes:
            found = await lookup([before, after])
            sealed = found[before]
            if sealed is None:
                raise _DeclinedError(no_such(old))
            if before == after:
                return {}
            if found[after] is not None and not overwrite:
                raise _DeclinedError(_exists(new))
            child = self._sealer.open(before, sealed)
            said = about.renamed(child.metadata, old, new)
            return {after: self._sealer.seal(new, child.cap, said), before: None}

        await self._change(plan, [before, after])

    async def _delete_if(self, name: str, uri: str) -> None:
        """Take a child out if it is still the one of that cap."""
        slot = self._sealer.slot_of(name)

        async def plan(lookup: Lookup) -> Changes:
            sealed = (await lookup([slot]))[slot]
            if sealed is None or self._sealer.open(slot, sealed).cap.to_string() != uri:
                return {}
            return {slot: None}

        await self._change(plan, [slot])

    # Within.

    def _require_mutable(self) -> None:
        if not self.is_mutable():
            raise NotMutableError("this directory is read-only through the cap that was given")

    async def _require_free(self, name: str) -> None:
        if await self.has_child(name):
            raise _exists(checked_name(name))

    async def _change(self, plan: Plan, slots: Sequence[bytes]) -> None:
        try:
            await self._table.change(plan, slots)
        except _DeclinedError as declined:
            raise declined.reason from None

    def _said(self, slot: bytes, sealed: bytes | None) -> Metadata | None:
        """Return what was said of a child; nothing of one that cannot be opened."""
        if sealed is None:
            return None
        try:
            return self._sealer.open(slot, sealed).metadata
        except AmpgridError:
            return None


def _exists(name: str) -> ChildExistsError:
    return ChildExistsError(f"there is a {name!r} in this directory already")
