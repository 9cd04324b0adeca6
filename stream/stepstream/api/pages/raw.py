"""The text of one value of a run, to read, copy or download."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.api.pages.context import PageError, Site
from stepstream.api.pages.run_page import found, values_of
from stepstream.contract.codec import dump_json


async def show_raw(site: Site, request: Request) -> Response:
    """Answer with a value as JSON text; `download` asks the browser to save it."""
    part = request.query_params.get("part", "")
    run = found(site, request)
    values = values_of(run, part)
    if not values:
        raise PageError(404, "The run has no such value.")
    name = f"{run.run_id}-{part}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} if "download" in request.query_params else {}
    # Text, and not JSON: a browser shows it as it is.
    return Response(bytes(dump_json(values[0])), media_type="text/plain; charset=utf-8", headers=headers)
