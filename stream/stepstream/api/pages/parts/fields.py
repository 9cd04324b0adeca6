"""Fields of forms: they keep what was entered when a form is refused, and show the reason beside the field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.contract.text.printable import printable
from stepstream.runtime.reruns import check_reason

_REASON_CHARACTERS_MAX = 2_000
_ROWS_MAX = 20
Options = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a form was refused: what was entered, the name of the field, and the reason; empty if it was not.

    `form` distinguishes forms of one page.
    """

    form: str = ""
    entered: Mapping[str, str] = field(default_factory=dict)
    field: str = ""
    reason: str = ""

    def of(self, form: str) -> "Refusal":
        """Return the refusal of one form: nothing if another one was refused."""
        return self if self.form == form else ACCEPTED


ACCEPTED = Refusal()


def entered_reason(form: Mapping[str, str]) -> str:
    """Return the reason that was entered; raise InvalidInput if it is too long."""
    check_reason(why := form.get("why", "").strip())
    return why


def area(refusal: Refusal, id: str, name: str, label: h.Node, value: str = "") -> h.Element:
    """Return a field of several lines; `id` is unique in its page."""
    shown = editable(refusal.entered.get(name, value))
    rows = min(max(shown.count("\n") + 1, 2), _ROWS_MAX)
    # Parsers drop the first line feed in the element.
    element = h.textarea(id=id, name=name, rows=rows, spellcheck="false", **_marks(refusal, id, name))[f"\n{shown}"]
    return h.div(".field")[h.label[h.span[label], element], _reason(refusal, id, name)]


def line(refusal: Refusal, id: str, name: str, label: h.Node, value: str = "", **attributes: str) -> h.Element:
    """Return a field of one line; `id` is unique in its page."""
    marks = _marks(refusal, id, name)
    element = h.input(id=id, name=name, value=refusal.entered.get(name, value), **attributes, **marks)
    return h.div(".field")[h.label[h.span[label], element], _reason(refusal, id, name)]


def choice(refusal: Refusal, id: str, name: str, label: h.Node, options: Options, value: str = "") -> h.Element:
    """Return a list of options, pairs of a value and a text, of which one is chosen; `id` is unique in its page."""
    chosen = refusal.entered.get(name, value)
    element = h.select(id=id, name=name, **_marks(refusal, id, name))[
        [h.option(value=each, selected=each == chosen)[printable(shown)] for each, shown in options]
    ]
    return h.div(".field")[h.label[h.span[label], element], _reason(refusal, id, name)]


def other_reason(refusal: Refusal, *names: str) -> h.Element | None:
    """Return the reason of a refusal that is about none of these fields."""
    if not refusal.reason or refusal.field in names:
        return None
    return h.p(".note.is-bad", role="alert")[text(f"{refusal.field}: {refusal.reason}".removeprefix(": "))]


def editable(value: str) -> str:
    r"""Return text for a field of several lines, with invisible characters as in JSON: valid JSON stays the same."""
    return printable(value.replace("\r\n", "\n").replace("\t", "  "), keep_lines=True)


def _marks(refusal: Refusal, id: str, name: str) -> dict[str, str]:
    return {"aria_invalid": "true", "aria_describedby": f"{id}-reason"} if refusal.field == name else {}


def _reason(refusal: Refusal, id: str, name: str) -> h.Element | None:
    if refusal.field != name or not refusal.reason:
        return None
    return h.p(".note.is-bad", id=f"{id}-reason", role="alert")[text(refusal.reason, _REASON_CHARACTERS_MAX)]
