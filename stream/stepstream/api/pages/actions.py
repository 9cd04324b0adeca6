"""What forms of the page do; each answers with a redirect to a page that reports the result."""

from collections.abc import Mapping

from starlette.responses import Response

from stepstream.api.pages.components import url
from stepstream.api.pages.context import Site, Visit, see


async def cancel_run(site: Site, visit: Visit, _form: Mapping[str, str]) -> Response:
    """Cancel a run."""
    run_id = visit.request.path_params["run_id"]
    done = "cancelled" if await site.engine.cancel(run_id) else "ended"
    return see(url("runs", run_id, query=[("done", done)]))
