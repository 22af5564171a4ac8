"""The AMP vocabulary of ampgrid: every Command, by who answers it.

The modules hold Commands and nothing else, and need only Twisted (and the errors of
`ampgrid.errors`, which need nothing). They are imported as ``ampgrid.commands``, never as bare
``commands``: two copies of one class would break the error maps of AMP.

* `ampgrid.commands.session`: what each end of a connection answers.
* `ampgrid.commands.introduction`: what introducers and the peers they introduce answer.
* `ampgrid.commands.storage`: what a storage peer answers.
* `ampgrid.commands.vdrive`: what a vdrive peer answers.
* `ampgrid.commands.control`: what a node answers on its Unix socket.
* `ampgrid.commands.drive`: what it answers there about directories.
* `ampgrid.commands.arguments`: bounded, canonical argument types.
* `ampgrid.commands.errors`: the errors that may be answered, and their codes.
"""
