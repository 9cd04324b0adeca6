"""The commands of the dead letters."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from stepstream.cli.cluster import Bootstrap, Namespace, cluster_of, run
from stepstream.cli.console import EXIT_USAGE, AsJson, err, out
from stepstream.cli.tables import counted
from stepstream.host.deadletters.redrive import Way, Ways, dead_letters_among, dead_letters_at, redrive
from stepstream.host.deadletters.store import DeadLetter, DeadLetterError, dead_letter_at, survey
from stepstream.host.loading import load_app
from stepstream.host.settings import read_sources
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.ports import LogError

letters_cli = typer.Typer(no_args_is_help=True, help="Records that could not be read: look at them, send them again.")

FromTopic = Annotated[str, typer.Option("--topic", help="Only those whose records were in this topic.")]
_TELL_EVERY = 1_000


@letters_cli.command("list", epilog="Example: stepstream dead-letters list --topic events")
def list_dead_letters(
    topic: FromTopic = "",
    limit: Annotated[int, typer.Option(help="At most so many, the latest.", min=1)] = 100,
    as_json: AsJson = False,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """List the dead letters, the oldest first: where each is and was, and why, and whether it was sent again."""
    found = run(survey(cluster_of(kafka, namespace), topic, limit))
    if as_json:
        typer.echo(json.dumps(found.latest))
        return
    for each in found.latest:
        origin = f"{each['topic']}-{each['partition']}-{each['offset']}"
        before = f", sent again {counted(each['redriven'], 'time')} before" if each["redriven"] else ""
        sent = ", was sent again" if each["sent"] else ""
        line = f"{each['place']}  {each['at']}  {origin}  {each['bytes']:,} bytes  {each['reason']}{before}{sent}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if not found.total:
        out.print("there are no dead letters")
    elif found.total > limit:
        out.print(f"these are the latest {limit:,} of {found.total:,}; --limit shows more")


@letters_cli.command("show", epilog="Example: stepstream dead-letters show 0-17")
def show_dead_letter(
    place: Annotated[str, typer.Argument(help="Its place, from the list: PARTITION-OFFSET.")],
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Show a dead letter with the key, headers and bytes of its record, as JSON; bytes that are no text as base64."""
    letter = run(dead_letter_at(cluster_of(kafka, namespace), place))
    typer.echo(json.dumps(letter.whole(), indent=2, ensure_ascii=False))


@letters_cli.command("redrive", epilog="Example: stepstream dead-letters redrive 0-17 0-18")
def redrive_dead_letters(
    places: Annotated[list[str] | None, typer.Argument(help="Places, from the list: PARTITION-OFFSET.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that were not sent again yet, or with --topic those from there.")
    ] = False,
    topic: FromTopic = "",
    code: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:APP]", help="The app whose sources map letters of its own again.")
    ] = None,
    sources: Annotated[Path | None, typer.Option(help="The engines' file of sources, for letters of these.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    kafka: Bootstrap = None,
    namespace: Namespace = None,
) -> None:
    """Send records again, byte for byte, to the topic and partition where they were; the letters stay in the list.

    An event without an id of its own is another one then; one with an id starts nothing that it has started already.
    A record of a source is not: the sources that failed map it again here, by --code or --sources, to its old identity.
    """
    if bool(places) == every or (topic and not every):
        err.print("[red]error:[/red] name places, or give --all, which may have a --topic", highlight=False)
        raise typer.Exit(EXIT_USAGE)
    cluster = cluster_of(kafka, namespace)
    chosen = list(run(survey(cluster, topic)).waiting) if every else list(dict.fromkeys(places or []))
    if every and chosen and not yes:
        typer.confirm(f"Send {counted(len(chosen), 'record')} again?", abort=True)
    run(_send(cluster, chosen, every, code or [], sources))


async def _ways(cluster: Cluster, code: list[str], sources: Path | None) -> Ways:
    known = {f"sources-{app.name}": app.sources for app in map(load_app, code)}
    if sources:
        known["sources"] = read_sources(sources)
    return Ways(await cluster.topics(), {cluster.settings.name(group): each for group, each in known.items()})


def _refuse(error: DeadLetterError) -> None:
    err.print(f"[yellow]left out:[/yellow] {error}", highlight=False, soft_wrap=True)


async def _send(cluster: Cluster, chosen: list[str], every: bool, code: list[str], sources: Path | None) -> None:
    ways = await _ways(cluster, code, sources)
    among = dead_letters_among(cluster, set(chosen), ways, _refuse)
    letters: AsyncIterator[Way] = among if every else dead_letters_at(cluster, chosen, ways)
    sent = 0

    def tell(_: DeadLetter) -> None:
        nonlocal sent
        sent += 1
        if sent % _TELL_EVERY == 0:
            out.print(f"{sent:,} of {len(chosen):,} sent again", highlight=False)

    try:
        await redrive(cluster, letters, tell)
    except LogError:
        rest = "; redrive --all goes on with those that are left" if sent else ""
        err.print(f"{sent:,} of {len(chosen):,} sent again, then it failed{rest}", highlight=False)
        raise
    out.print(f"{sent:,} sent again; one that still cannot be read comes back to the list", highlight=False)
