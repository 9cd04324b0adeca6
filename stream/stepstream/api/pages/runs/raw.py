"""The text of one value of a run, to read, copy or download."""

from starlette.responses import Response

from stepstream.api.pages.parts.context import PageError, Site, Visit
from stepstream.api.pages.runs.run_page import found, values_of
from stepstream.contract.codec import dump_json


async def show_raw(site: Site, visit: Visit) -> Response:
    """Answer with a value as JSON text; `download` asks the browser to save it."""
    part = visit.param("part")
    run = await found(site, visit)
    values = values_of(run, part)
    if not values:
        raise PageError(404, "The run has no such value.")
    name = f"{run.run_id}-{part}.json"
    headers = (
        {"Content-Disposition": f'attachment; filename="{name}"'} if "download" in visit.request.query_params else {}
    )
    # Text, and not JSON: a browser shows it as it is.
    return Response(bytes(dump_json(values[0])), media_type="text/plain; charset=utf-8", headers=headers)
