"""The published contract in topics/ is rendered from the code, and the code reads what every release wrote."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from stepstream import __version__
from stepstream.contract.commands import decode_command
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import decode_event
from stepstream.contract.history import decode_history_record
from stepstream.contract.inbox import decode_inbox
from stepstream.contract.limits import DAY_MS
from stepstream.contract.publishing.render import RELEASE, render
from stepstream.contract.topics import COMMANDS, HISTORY, INBOX, TOPICS
from tests.tidy_rules import ROOT

TOPICS_FOLDER = ROOT / "topics"
GOLDEN = sorted(TOPICS_FOLDER.glob("golden/*/*.json"))
RECORDS = {record.__name__: (record, topic.name) for topic in TOPICS for record in topic.records}
DECODERS = {INBOX: decode_inbox, f"{COMMANDS}.<app>": decode_command, HISTORY: decode_history_record}


def test_the_folder_is_what_the_code_renders() -> None:
    """`make topics` would change nothing: no file differs, is missing or is superfluous."""
    committed = {p.relative_to(TOPICS_FOLDER).as_posix(): p.read_text("utf-8") for p in _files()}
    golden_of_others = {name for name in committed if name.startswith("golden/")} - render().keys()
    for name in golden_of_others:
        del committed[name]
    assert committed == render(), "run `make topics` and commit what it writes"


def test_golden_records_belong_to_this_release() -> None:
    """The golden records have the release of the package, so that each release leaves a folder."""
    assert __version__.startswith(f"{RELEASE}.")


@pytest.mark.parametrize(("topic", "days", "words"), [(HISTORY, 90, "90 days"), (INBOX, 7, "seven days")])
def test_documented_retention_is_that_of_the_topics(topic: str, days: int, words: str) -> None:
    """The retention that docs/deploy.md names is the one with which the topics are created."""
    (found,) = [each for each in TOPICS if each.name == topic]
    assert found.retention_ms == days * DAY_MS
    paragraphs = (ROOT / "docs" / "deploy.md").read_text("utf-8").split("\n\n")
    assert [each for each in paragraphs if f"`{topic}`" in each and words in each]


def _files() -> list[Path]:
    return [path for path in TOPICS_FOLDER.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_records_are_read_as_they_were_written(path: Path) -> None:
    """Each golden record decodes by the topic's own decoder, validates, and loses nothing when it is written again."""
    record, topic = RECORDS[path.stem]
    schema = json.loads((TOPICS_FOLDER / "schemas" / path.name).read_text("utf-8"))
    decode = DECODERS.get(topic, msgspec.json.Decoder(record).decode)
    for written in json.loads(path.read_text("utf-8")):
        decoded = decode(json.dumps(written).encode())
        assert type(decoded) is record
        assert json.loads(msgspec.json.encode(decoded)) == written
        Draft202012Validator(schema).validate(written)


@pytest.mark.parametrize("name", RECORDS)
def test_schemas_are_valid_and_refuse_what_the_decoder_refuses(name: str) -> None:
    """A schema is itself valid, and refuses a record without its required fields and one that is not an object."""
    schema = json.loads((TOPICS_FOLDER / "schemas" / f"{name}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    decoder = msgspec.json.Decoder(RECORDS[name][0])
    wrongs: tuple[object, ...] = ([], {"type": "none.such"}, {})
    for wrong in wrongs:
        assert not validator.is_valid(wrong)
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(json.dumps(wrong).encode())


def test_the_references_of_asyncapi_resolve() -> None:
    """Each `$ref` in asyncapi.yaml is part of it, or a file beside it."""
    document = yaml.safe_load((TOPICS_FOLDER / "asyncapi.yaml").read_text("utf-8"))
    references = list(_references(document))
    assert len(references) > 2 * len(RECORDS)
    for reference in references:
        if reference.startswith("#/"):
            at = document
            for part in reference[2:].split("/"):
                at = at[part]
        else:
            assert (TOPICS_FOLDER / reference).is_file()


def _references(value: Any) -> list[str]:
    match value:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for item in value.values() for found in _references(item)]
        case list():
            return [found for item in value for found in _references(item)]
    return []


def event(**fields: object) -> str:
    """Return an event as JSON."""
    return json.dumps({"name": "a", **fields})


@pytest.mark.parametrize(
    ("record", "taken"),
    [
        (event(), True),
        (event(data={"a": [1]}, id="a", ts=0, user=[1], v="1", more=1), True),
        (event(data=[1]), False),
        (event(data="x"), False),
        (event(data=None), False),
        (event(name=""), False),
        (event(name="x" * 255), True),
        (event(name="x" * 256), False),
        (event(name="😀" * 255), True),
        (event(name="a\n"), False),
        (event(name="a\x7fb"), False),
        (event(name="a\x80b\u2028"), True),
        (event(name="stream/x"), False),
        (event(name="streams/x"), True),
        (event(name="a/stream/x"), True),
        (event(name=None), False),
        (event(id="x" * 255), True),
        (event(id="x" * 256), False),
        (event(id="a\nb"), False),
        (event(id="a\n"), False),
        (event(id="stream/x"), True),
        (event(id=1), False),
        (event(ts=2**48 - 1), True),
        (event(ts=2**48), False),
        (event(ts=-1), False),
        (event(ts=1.5), False),
        (event(ts="1"), False),
        (event(ts=True), False),
        (event(v=1), False),
        (event(user=None), True),
        ('{"data": {}}', False),
        ("[]", False),
    ],
    ids=range(32),
)
def test_the_schema_of_an_event_agrees_with_its_decoder(record: str, taken: bool) -> None:
    """An event is valid by the published schema exactly if it is read, on both sides of each bound."""
    schema = json.loads((TOPICS_FOLDER / "schemas" / "EventRecord.json").read_text("utf-8"))
    try:
        decode_event(record.encode())
        read = True
    except InvalidInput:
        read = False
    assert (Draft202012Validator(schema).is_valid(json.loads(record)), read) == (taken, taken)
