"""The pages of dead letters: the latest ones, and one with its bytes, which a form sends again."""

from collections.abc import Mapping

import htpy as h
from starlette.responses import Response

from stepstream.api.facade import DeadLetters, DeadLetterView
from stepstream.api.pages.parts.components import (
    Column,
    at,
    cells,
    facts,
    known_params,
    labelled,
    listing,
    note,
    numbers,
    row,
    text,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.parts.layout import document
from stepstream.contract.text.wording import counted

ROWS = 100
_COLUMNS = (
    Column("Place"),
    *labelled("Time", "From"),
    *numbers("Size"),
    Column("Why", "error", "why"),
    *labelled("Redriven"),
)
_HEADERS = (Column("Name"), *labelled("Value"))
_REASON_CHARACTERS = 300
_TEXT_CHARACTERS_MAX = 64 * 1024
_HEX_BYTES_MAX = 4 * 1024
_HEX_BYTES_PER_LINE = 16
_HEADERS_MAX = 100


def _log_of(site: Site) -> DeadLetters:
    if site.engine.dead_letters is None:
        raise PageError(404, "This process reads no dead letters.")
    return site.engine.dead_letters


def _url(place: str) -> str:
    return url("dead-letter", query=[("place", place)])


async def show_dead_letters(site: Site, visit: Visit) -> Response:
    """Answer with the list."""
    known_params(visit)
    found = await _log_of(site).latest(ROWS)
    content = [
        h.h1["Dead letters"],
        h.p(".hint")["Records that could not be read or applied, the newest first. They block no other record."],
        listing("Table of dead letters", _COLUMNS, [_row(view) for view in found])
        if found
        else note("There are no dead letters."),
        h.p(".hint")[f"The latest {ROWS} are listed; ", h.code["stepstream dead-letters list"], " lists more."]
        if len(found) == ROWS
        else None,
    ]
    return html(document(visit, "Dead letters", "Dead letters", await site.runs.queries.counts(), *content))


def _row(view: DeadLetterView) -> h.Element:
    return row(
        _COLUMNS,
        h.a(href=_url(view.place))[view.place],
        at(view.at),
        text(_origin(view)),
        f"{view.size:,} bytes",
        text(view.reason, _REASON_CHARACTERS),
        _sent(view),
    )


def _origin(view: DeadLetterView) -> str:
    return f"{view.topic}-{view.partition}-{view.offset}" if view.partition >= 0 else view.topic


def _sent(view: DeadLetterView) -> h.Node:
    if not view.is_sent:
        return None
    return ["by ", text(view.by)] if view.by else "yes"


async def show_dead_letter(site: Site, visit: Visit) -> Response:
    """Answer with the page of a dead letter."""
    asked = known_params(visit, "place", "done")
    view = await _log_of(site).show(asked["place"])
    if view is None:
        raise PageError(404, "There is no such dead letter among the latest; `stepstream dead-letters show` reads all.")
    redriven = "The record was sent again. If it still cannot be processed, it becomes a new dead letter."
    is_sent = bool(visit.done(_url(view.place)))
    content = [
        h.h1[f"Dead letter {view.place}"],
        note(redriven, "good") if is_sent else None,
        note(text(view.reason, _TEXT_CHARACTERS_MAX), "bad"),
        facts(
            [
                ("Time", at(view.at)),
                ("From", text(_origin(view))),
                ("Size of the value", f"{view.size:,} bytes"),
                ("Sources that failed", text(", ".join(view.sources)) if view.sources else None),
                ("Redriven before", counted(view.redrives, "time") if view.redrives else None),
                ("Redriven", _sent(view)),
            ]
        ),
        # The mark of a record that was just sent may not be readable yet.
        None if is_sent else _form(visit, view),
        h.section[h.h2["Key"], _bytes(view.key, "Key")],
        h.section[h.h2["Value"], _bytes(view.value, "Value")],
        _headers(view),
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, f"Dead letter {view.place}", "Dead letters", counts, *content))


def _form(visit: Visit, view: DeadLetterView) -> h.Node:
    if view.is_sent or not visit.may_operate:
        return None
    if view.is_cut:
        return note("Only a part of the record was stored, so it cannot be redriven.")
    if view.partition < 0:
        return note("It is unknown where the record came from, so it cannot be redriven.")
    return post_form(visit, _url(view.place), "Redrive", h.button["Send the record again"])


def _bytes(raw: bytes | None, label: str) -> h.Node:
    """Return bytes as text, or as numbers if they are not UTF-8."""
    if raw is None:
        return h.p["null"]
    if not raw:
        return h.p["empty"]
    try:
        shown = text(raw.decode(), _TEXT_CHARACTERS_MAX)
    except UnicodeDecodeError:
        more = f"\n… ({len(raw):,} bytes)" if len(raw) > _HEX_BYTES_MAX else ""
        shown = text(_hex(raw[:_HEX_BYTES_MAX]) + more, _TEXT_CHARACTERS_MAX)
    return h.pre(tabindex="0", aria_label=label)[shown]


def _hex(raw: bytes) -> str:
    r"""Return lines such as `00000010  ff 00 41 …  ..A`, 16 bytes each."""
    lines: list[str] = []
    for start in range(0, len(raw), _HEX_BYTES_PER_LINE):
        part = raw[start : start + _HEX_BYTES_PER_LINE]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_BYTES_PER_LINE}} {shown}")
    return "\n".join(lines)


def _headers(view: DeadLetterView) -> h.Node:
    if not view.headers:
        return None
    shown = ((text(name), _bytes(value, "Header")) for name, value in view.headers[:_HEADERS_MAX])
    return h.section[h.h2["Headers"], listing("Headers", _HEADERS, [h.tr[cells(_HEADERS, *each)] for each in shown])]


async def redrive_dead_letter(site: Site, visit: Visit, _form: Mapping[str, str]) -> Response:
    """Send the record of a dead letter again."""
    place = visit.param("place")
    await _log_of(site).redrive(place, visit.user)
    return see_done(visit, _url(place), "redriven")
