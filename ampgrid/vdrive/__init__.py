"""The virtual drive: encrypted directories, replicated on peers (seed 001's vdrive)."""
