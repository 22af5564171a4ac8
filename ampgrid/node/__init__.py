"""The composition root: from configuration to objects to a running node.

Import what is needed from its module; nothing is imported here, so that a command which only
reads a node directory starts fast.

* `ampgrid.node.config`: ``node.toml``, read and checked.
* `ampgrid.node.directory`: what lies where in a node directory.
* `ampgrid.node.creation`: making a new one.
* `ampgrid.node.node`: the node itself.
"""
