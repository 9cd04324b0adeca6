"""An error with its message, the line of the user's code that raised it, and its traceback."""

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.contract.codec import Json
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.failed_attempts import place_of

_MESSAGE_CHARACTERS_MAX = 4_000
_STACK_CHARACTERS_MAX = 64 * 1024
_PLACE_CHARACTERS_MAX = 500


def error_view(error: Json, heading: str) -> h.Element | None:
    """Return an error as a group; None if there is no error."""
    if not isinstance(error, dict):
        return None
    stack = str(error.get("stack", "")).rstrip()
    place = place_of(stack[-_STACK_CHARACTERS_MAX:])
    # A page may have several of the same name, which landmarks must not have.
    return h.div(".failure", role="group", aria_label=printable(heading))[
        h.h2[text(heading)],
        h.p(".message")[
            h.strong[text(error.get("name", ""))], ": ", text(error.get("message", ""), _MESSAGE_CHARACTERS_MAX)
        ],
        raised_at(place),
        # The end of a traceback has the frame that raised.
        traceback_view(stack[-_STACK_CHARACTERS_MAX:], is_open=True),
    ]


def raised_at(place: str) -> h.Element | None:
    """Return the line that raised an error, FILE:LINE; None if it is unknown."""
    return h.p(".place")["raised at ", h.code[text(place, _PLACE_CHARACTERS_MAX)]] if place else None


def traceback_view(stack: str, *, is_open: bool) -> h.Element | None:
    """Return a traceback that can be folded; None if there is none."""
    if not stack:
        return None
    return h.details(open=is_open)[h.summary["Traceback"], h.pre(tabindex="0")[text(stack, len(stack))]]
