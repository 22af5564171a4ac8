"""The command line: faces over what the floors below do, without logic of their own.

* `ampgrid.cli.main`: the command ``ampgrid`` and the list of its subcommands.
* `ampgrid.cli.exits`: which error ends with which exit status.
* `ampgrid.cli.console`: what is printed, and how.
* `ampgrid.cli.control`: how a subcommand speaks with the node.

Each subcommand is imported only when it is called, so that ``ampgrid --version`` starts fast.
"""
