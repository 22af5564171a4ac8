"""The plugin by which ``twist ampgrid`` is found.

The wheel installs this module into ``twisted.plugins``; in a checkout, the directory that holds
``twisted/`` has to be on the path.
"""

from twisted.application.service import ServiceMaker

ampgrid = ServiceMaker(
    "ampgrid",
    "ampgrid.cli.twist",
    "A node of an ampgrid: a peer-to-peer storage grid.",
    "ampgrid",
)
