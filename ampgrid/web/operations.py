"""``/operations/HANDLE``: how far something is, and what ends it early."""

from __future__ import annotations

from ampgrid.web.answers import Answer, as_json, page, redirect, text
from ampgrid.web.bodies import A_FORM
from ampgrid.web.call import Call
from ampgrid.web.errors import BadRequestError, NotFoundError
from ampgrid.web.jobs import Job
from ampgrid.web.redirects import when_done
from ampgrid.web.routing import Route, Target, chosen


class OperationsSection:
    """All operations that were begun with a handle."""

    def route(self, target: Target) -> Route:
        """Return what a method does with one operation, or with the list of all."""
        names = [name for name in target.names[1:] if name]
        if not names:
            return chosen({"GET": Route(_all)}, target.method)
        if len(names) > 1:
            raise NotFoundError("there is no such page")
        routes = {
            "GET": Route(tell),
            "POST": Route(_post, A_FORM),
            "DELETE": Route(cancel),
        }
        return chosen(routes, target.method)


def _job(call: Call) -> Job:
    return call.gateway.jobs.get(call.target.names[1])


async def _all(call: Call) -> Answer:
    return as_json([job.to_json() for job in call.gateway.jobs.all()])


async def tell(call: Call) -> Answer:
    """Tell how far an operation is."""
    job = _job(call)
    if call.wants() == "html":
        return page(call.gateway.pages.made("operation.html", call, job=job.to_json()))
    return as_json(job.to_json())


async def cancel(call: Call) -> Answer:
    """Cancel an operation; one that has ended stays as it is."""
    job = _job(call)
    if job.ended is None:
        job.operation.cancel()
    state = "cancelled" if job.ended is None else job.state
    return text(f"{state}\n")


async def _post(call: Call) -> Answer:
    if call.t != "cancel":
        raise BadRequestError("t= is cancel")
    target = when_done(call)
    answer = await cancel(call)
    return answer if target is None else redirect(target)
