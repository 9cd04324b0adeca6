"""What the page of runs says about filters: the terms that there are, and what a filter that finds nothing searched."""

import re

import htpy as h

from stepstream.api.pages.parts.components import facts, note, text, url
from stepstream.runtime.readmodel.search.filters import Filter, Term

# Each row is a form of terms, and what it finds.
TERMS = (
    ("function:orders.*", "runs of a function; a star stands for any text"),
    ("status:failed", "scheduled, queued, running, completed, failed, cancelled, skipped; open or ended"),
    ("status:waiting", "running runs that only wait: sleeping, waiting or retrying"),
    ("event:orders/created", "runs that an event of this name started"),
    ("event_id:o-4711", "runs that the event with this id started, resumed or cancelled"),
    ("order_id=4711", "runs with this value of an attribute, which the function declares or sets"),
    ('cel:"event.data.order_id == 4711"', "runs for which an expression on event, output, error or attributes is true"),
    ('error:"connection refused"', "runs whose error contains the text"),
    ("error_group:3f2a91c04b7d", "runs that ended with an error of a group"),
    ("after:-1h before:2026-11-28T10:00", "runs that began in a range of time"),
    ("started_after: started_before: ended_after: ended_before:", "the same for their start and their end"),
    ("run_id:FK8ZDFSF", "the run with this id, or this end of its id"),
    ("caller:RUN_ID origin:RUN_ID", "runs that a run invoked; reruns of it"),
    ("rerun:false bulk:OPERATION", "runs that were not rerun; runs that a bulk operation started"),
    ("app:shop paused:true", "runs of an app; runs that an operator paused"),
    ("order_id:47*", "runs with a value of an attribute that begins so"),
    ("4711", "runs with this id or end of it, or with exactly this event id or value of any attribute"),
    ("status:failed,cancelled -function:mail", "one of several values; a minus excludes"),
)
# Texts that an expression can contain in quotes without an escape.
_PLAIN = re.compile(r"[\w .:/@+-]+")
_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def filter_help() -> h.Element:
    """Return the terms of filters, which the reader opens."""
    return h.details("#filter-terms")[h.summary["Filter help"], facts((h.code[form], finds) for form, finds in TERMS)]


def nothing_found(filter: Filter) -> h.Element:
    """Return that no run matches a filter, what was searched, and how the data of events is searched."""
    attributes = [term for term in filter.terms if term.attribute]
    return note(
        [
            "No run matches this filter. ",
            h.a(href=url("runs"))["Show all runs"],
            h.br,
            [[h.code[text(term.attribute)], " was taken as the name of an attribute of runs. "] for term in attributes],
            "Ids of events and values of attributes are compared whole; ",
            h.code["order_id:47*"],
            " finds the values of an attribute that begin so. ",
            "Except for cel:, filters do not search the data of events. To search it, use ",
            _search_of_data(attributes),
            ".",
        ]
    )


def _search_of_data(attributes: list[Term]) -> h.Element:
    """Return the filter by the data of events that an attribute may have meant, as a link; else its form."""
    for term in attributes:
        name, value = term.attribute.removeprefix("data."), term.values[0]
        if _KEY.fullmatch(name) and _PLAIN.fullmatch(value.text) and not value.prefix:
            meant = f"cel:\"event.data.{name} == '{value.text}'\""
            return h.a(href=url("runs", query=[("filter", meant)]))[h.code[text(meant, 1_000)]]
    return h.code["cel:\"event.data.KEY == 'VALUE'\""]
