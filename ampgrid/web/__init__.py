"""The web gateway: a node's files and directories over HTTP (seed 004), for scripts and browsers.

It talks to the objects of the node (`ampgrid.node.core.NodeCore`), not over the socket, and holds
no logic of the grid. Nothing is imported here: a command that needs no gateway does not pay for
it. From the socket to the answer:

* `ampgrid.web.gateway`: composition. Listens, writes ``node.url``, makes all that is below.
* `ampgrid.web.channel`: one connection; deadlines and bounds of what a client sends.
* `ampgrid.web.request`: one request. When its head is there, and before any of its body is
  taken, it is routed, let in by the gate or refused, and its body gets a place.
* `ampgrid.web.gate`: Host, Origin and Sec-Fetch of what may come in; `ampgrid.web.tokens`: what a
  browser needs to change anything; `ampgrid.web.password`: the ``webpassword``;
  `ampgrid.web.guesses`: who guesses at one of these is slowed.
* `ampgrid.web.bodies`, `ampgrid.web.forms`, `ampgrid.web.spool`: where bodies go: memory if they
  are small, else a file of the node under a key that is in memory only.
* `ampgrid.web.routing`: which section answers: a `Section` is made for each first word of a path.
* `ampgrid.web.call`: what an action gets: arguments, body, the gateway. It returns an
  `ampgrid.web.answers.Answer`, or None if it has answered by itself. Errors become statuses in
  `ampgrid.web.errors` alone, and answers in `ampgrid.web.refusals`; headers for safety are in
  `ampgrid.web.headers` alone.
* `ampgrid.web.places`: URL paths to grid paths; `ampgrid.web.tree`: ``/uri`` and ``/vdrive``, by
  method and ``t=`` to the actions in `ampgrid.web.reading`, `ampgrid.web.writing` and
  `ampgrid.web.posting`.
* `ampgrid.web.downloads`: files with ranges and ETags; a slow reader pauses the download.
* `ampgrid.web.localfiles`, `ampgrid.web.folders`, `ampgrid.web.localcopies`: files of this
  machine: which may be named, how they are opened without following links, copies.
* `ampgrid.web.xmlrpc`: the same operations as functions, at ``/xmlrpc``.
* `ampgrid.web.pages`, `ampgrid.web.paging` and ``templates/``: pages for people.

Twisted's own resources, and klein over them, are handed a request when all of its body is there.
That is too late to refuse it, so routing is done here, by a table.
"""
