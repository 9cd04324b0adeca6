"""Forms that act: how they are rendered, and how what a browser sends is read."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

import htpy as h

from stepstream.api.bodies import FREE_BYTES
from stepstream.api.pages.parts.context import PageError, Site, Visit
from stepstream.contract.limits import MIB

# A form has at most the data of one event, of which each byte may take three.
FORM_BYTES_MAX = 2 * MIB
FORM_TOKEN = "token"  # noqa: S105 - the name of a field
_FIELDS_MAX = 50


def post_form(
    visit: Visit, action: str, label: str, *content: h.Node, attributes: Mapping[str, str] | None = None
) -> h.Element | None:
    """Return a form that acts; None for a visitor that may only read."""
    return session_form(visit, action, label, *content, attributes=attributes) if visit.may_operate else None


def session_form(
    visit: Visit, action: str, label: str, *content: h.Node, attributes: Mapping[str, str] | None = None
) -> h.Element:
    """Return a form with the token of its session, for any visitor."""
    return h.form(".actions", attributes or {}, method="post", action=action, aria_label=label)[
        h.input(type="hidden", name=FORM_TOKEN, value=visit.token), content
    ]


async def read_form(site: Site, visit: Visit) -> dict[str, str]:
    """Return the fields of a form; raise PageError for a body that is not a form, and TooLarge.

    Strangers send keys and answers to approvals, for which they need no room in the budget of bodies.
    """
    request = visit.request
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise PageError(415, "Send a form of the page.")
    async with site.bodies.body(request, FORM_BYTES_MAX if visit.may_operate else FREE_BYTES) as body:
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise PageError(400, "The form cannot be read.") from None
    return dict(pairs)
