"""The commands `stepstream dead-letters list`, `show` and `redrive`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from stepstream.cli.kafka import cluster_of, run
from stepstream.cli.options import Bootstrap, Namespace
from stepstream.cli.terminal.console import EXIT_USAGE, AsJson, commands, err, fail, out
from stepstream.contract.text.wording import counted
from stepstream.host.deadletters.dead_letter import DeadLetter, DeadLetterError
from stepstream.host.deadletters.redrive import Redrive, RedrivePlanner, plan_many, plan_some, redrive
from stepstream.host.deadletters.topic import dead_letter_at, survey
from stepstream.host.loading import load_app
from stepstream.host.settings import read_sources
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import LogError

cli = commands("List, show and redrive records that could not be processed.")

FromTopic = Annotated[str, typer.Option("--topic", help="Only records that came from this topic (default: all).")]
_REPORT_EVERY = 1_000


@cli.command("list", epilog="Example: stepstream dead-letters list --topic events")
def list_dead_letters(
    topic: FromTopic = "",
    limit: Annotated[int, typer.Option(help="List at most this many, the latest ones.", min=1)] = 100,
    as_json: AsJson = False,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """List dead letters, the oldest first: place, time, origin, size, reason, and whether each was redriven."""
    found = run(survey(cluster_of(kafka, namespace), topic, limit))
    if as_json:
        out.json(found.latest)
        return
    for each in found.latest:
        origin = f"{each['topic']}-{each['partition']}-{each['offset']}"
        before = f", redriven {counted(each['redriven'], 'time')} before" if each["redriven"] else ""
        sent = ", redriven" if each["sent"] else ""
        out.line(f"{each['place']}  {each['at']}  {origin}  {each['bytes']:,} bytes  {each['reason']}{before}{sent}")
    if not found.total:
        out.line("there are no dead letters")
    elif found.total > limit:
        out.line(f"these are the latest {limit:,} of {found.total:,}; --limit shows more")


@cli.command("show", epilog="Example: stepstream dead-letters show 0-17")
def show_dead_letter(
    place: Annotated[str, typer.Argument(help="Its place as listed: PARTITION-OFFSET.")],
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Show a dead letter with the key, headers and value of its record, as JSON; bytes that are not UTF-8 as base64."""
    out.json(run(dead_letter_at(cluster_of(kafka, namespace), place)).full(), indent=2)


@cli.command("redrive", epilog="Example: stepstream dead-letters redrive 0-17 0-18")
def redrive_dead_letters(
    places: Annotated[list[str] | None, typer.Argument(help="Places as listed: PARTITION-OFFSET.")] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Redrive all that were not redriven yet; with --topic, only those from that topic."),
    ] = False,
    topic: FromTopic = "",
    code: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:APP]", help="An app whose sources map their dead letters again; may be repeated."),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(help="The engines' sources file; its sources map their dead letters again.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Send records again, byte for byte, to the partitions they came from; the dead letters stay in the list.

    An event without an id becomes a new event. An event with an id starts no function that it has started within 24 h.
    A record of a source is not written to its topic again: this command maps it with the fixed mapping (--code or
    --sources) and sends the event, which has the same id as before.
    """
    if bool(places) == every or (topic and not every):
        raise fail("give places, or --all, which can be limited by --topic", EXIT_USAGE)
    cluster = cluster_of(kafka, namespace)
    chosen = list(run(survey(cluster, topic)).waiting) if every else list(dict.fromkeys(places or []))
    if every and chosen and not yes:
        typer.confirm(f"Redrive {counted(len(chosen), 'record')}?", abort=True)
    run(_redrive(cluster, chosen, every, code or [], sources))


async def _planner(cluster: Cluster, code: list[str], sources: Path | None) -> RedrivePlanner:
    known = {f"sources-{app.name}": app.sources for app in map(load_app, code)}
    if sources:
        known["sources"] = read_sources(sources)
    return RedrivePlanner(await cluster.topics(), {cluster.settings.name(group): each for group, each in known.items()})


def _refuse(error: DeadLetterError) -> None:
    err.line(("skipped:", "yellow"), f" {error}")


async def _redrive(cluster: Cluster, chosen: list[str], every: bool, code: list[str], sources: Path | None) -> None:
    planner = await _planner(cluster, code, sources)
    many = plan_many(cluster, set(chosen), planner, _refuse)
    planned: AsyncIterator[Redrive] = many if every else plan_some(cluster, chosen, planner)
    sent = 0

    def count(_: DeadLetter) -> None:
        nonlocal sent
        sent += 1
        if sent % _REPORT_EVERY == 0:
            out.line(f"{sent:,} of {len(chosen):,} redriven")

    try:
        await redrive(cluster, planned, count)
    except LogError:
        rest = "; `redrive --all` continues with the rest" if sent else ""
        err.line(f"failed after {sent:,} of {len(chosen):,} were redriven{rest}")
        raise
    out.line(f"{sent:,} redriven; a record that still cannot be processed becomes a new dead letter")
