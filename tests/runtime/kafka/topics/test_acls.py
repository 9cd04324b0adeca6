"""The ACLs of each role, as commands and as JSON."""

import json

from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.acls import Acl, Principals, expected_acls, render_acl_commands, render_acl_json

SETTINGS = KafkaSettings("b:1", "eu")


def test_names_are_those_of_the_namespace() -> None:
    """Topics, groups and transactional ids start with it, prefixes too."""
    found = expected_acls(SETTINGS, ["shop", "shop.gpu"], Principals("User:e", "User:w", "User:p", "User:o"))
    assert all(acl.name.startswith("eu.") for acl in found)
    assert Acl("User:e", "transactional-id", "eu.shard-", ("Describe", "Write"), prefixed=True) in found
    reads = [
        acl.name
        for acl in found
        if acl.principal == "User:w" and "Write" not in acl.operations and "Read" in acl.operations
    ]
    assert reads == [
        *("eu.commands.shop", "eu.worker-shop", "eu.sources-shop"),
        *("eu.commands.shop.gpu", "eu.worker-shop.gpu", "eu.sources-shop.gpu"),
        *("eu.changelog", "eu.replies"),
    ]


def test_producers_may_only_append_events() -> None:
    """They can read nothing, and write no result, command or state."""
    assert expected_acls(SETTINGS, ["shop"], Principals(producer="User:p")) == [
        Acl("User:p", "topic", "eu.events", ("Describe", "Write"))
    ]


def test_gateways_serve_apps_that_are_not_known_yet() -> None:
    """They may be members of each app's group, and create its topic; they write what workers do."""
    of_worker = expected_acls(SETTINGS, ["shop"], Principals(worker="User:g"))
    found = expected_acls(SETTINGS, [], Principals(gateway="User:g"))
    commands = Acl("User:g", "topic", "eu.commands.", ("Describe", "Read", "Create", "DescribeConfigs"), prefixed=True)
    assert {commands, Acl("User:g", "group", "eu.worker-", ("Describe", "Read"), prefixed=True)} <= set(found)
    written = [{acl.name for acl in acls if "Write" in acl.operations} for acls in (of_worker, found)]
    assert written[0] <= written[1]


def test_only_engines_write_state_and_commands() -> None:
    """No other role may write changelog, history and replies; only operators send commands again."""
    found = expected_acls(SETTINGS, ["shop"], Principals("User:e", "User:w", "User:p", "User:o"))
    writing = [acl for acl in found if "Write" in acl.operations]
    writers = {acl.name: {each.principal for each in writing if each.name == acl.name} for acl in writing}
    assert all(writers[f"eu.{topic}"] == {"User:e"} for topic in ("changelog", "history", "replies", "engines"))
    assert writers["eu.commands."] == {"User:e", "User:o"}
    assert writers["eu.functions"] == {"User:w", "User:o"}


def test_resources_with_the_same_rights_share_a_command() -> None:
    """The command names each of them, quoted for a shell."""
    acls = [Acl("User:a b", "topic", name, ("Read",)) for name in ("x", "y")]
    assert render_acl_commands(SETTINGS, [*acls, Acl("User:a b", "topic", "z.", ("Read",), prefixed=True)]) == (
        "kafka-acls.sh --bootstrap-server b:1 --add --allow-principal 'User:a b' --topic x --topic y "
        "--resource-pattern-type literal --operation Read\n"
        "kafka-acls.sh --bootstrap-server b:1 --add --allow-principal 'User:a b' --topic z. "
        "--resource-pattern-type prefixed --operation Read\n"
    )
    assert json.loads(render_acl_json(acls[:1])) == [
        {"principal": "User:a b", "type": "topic", "name": "x", "operations": ["Read"], "prefixed": False}
    ]
