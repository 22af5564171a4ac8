"""XML-RPC at ``/xmlrpc`` (seed 004, section 6): every operation of the gateway as a function call.

* `ampgrid.web.xmlrpc.envelope`: XML to calls, and values to XML; hostile XML ends there.
* `ampgrid.web.xmlrpc.faults`: the number of every fault, in one place.
* `ampgrid.web.xmlrpc.methods`: the functions. Each does what a request over HTTP does, by the
  action of that request, so that both answer alike.
* `ampgrid.web.xmlrpc.section`: the page: a body of a call, and its answer.
"""
