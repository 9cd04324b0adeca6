"""`stepstream topics` on a real broker: what it creates, and what it reports about other or changed topics."""

import asyncio
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stepstream.contract.topics import TOPICS
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import LogError, NewRecord
from tests.kafka.cluster.fleet import Fleet
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
SHARDS = ("--shards", "3", "--app", "shop")


def topics(bootstrap: str, namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `stepstream topics` with these arguments."""
    command = [sys.executable, "-m", "stepstream", "topics", *arguments, "--kafka", bootstrap, "--namespace", namespace]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def create(bootstrap: str, namespace: str, specs: dict[str, tuple[int, dict[str, str]]]) -> None:
    """Create topics without the command, as an operator might."""
    asyncio.run(Cluster(KafkaSettings(bootstrap, namespace)).create(specs, 1))


def test_apply_creates_what_check_expects(bootstrap: str) -> None:
    """After apply, check finds no difference, and a second apply creates nothing."""
    made = topics(bootstrap, "plain", "apply", *SHARDS)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created") == len(TOPICS)
    assert "commands.shop" in made.stdout
    again = topics(bootstrap, "plain", "apply")
    assert (again.returncode, again.stdout, again.stderr) == (0, "no topic is missing\n", "")
    checked = topics(bootstrap, "plain", "check", "--app", "shop")
    assert (checked.returncode, checked.stdout) == (0, "the topics are as they should be, with 3 shards\n")


def test_other_configurations_are_reported_and_not_changed(bootstrap: str, tmp_path: Path) -> None:
    """A topic with a short retention, or without compaction, is named with the expected value and a remedy.

    An engine or a worker that starts logs the differences of the topics that it uses, with the same commands.
    """
    create(bootstrap, "odd", {"events": (3, {"retention.ms": "1000"}), "changelog": (3, {"cleanup.policy": "delete"})})
    made = topics(bootstrap, "odd", "apply", *SHARDS)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created") == len(TOPICS) - 2
    assert "topic 'odd.events': retention.ms is 1000 instead of 604800000" in made.stderr
    assert "topic 'odd.changelog': cleanup.policy is delete instead of compact" in made.stderr
    (tmp_path / "shop.py").write_text("from stepstream import App\napp = App('shop')\n", encoding="utf-8")
    with Fleet(bootstrap, "odd", tmp_path, tmp_path / "shop.py") as fleet:
        engine, worker = fleet.add_engine(), fleet.add_worker()
        until(lambda: "shard 2 recovered" in engine.log.read_text())
        until(lambda: "stepstream worker" in worker.log.read_text())
    for member, names in ((engine, ["events", "changelog"]), (worker, ["events"])):
        lines = [line for line in member.log.read_text().splitlines() if "instead of" in line]
        assert [f"topic 'odd.{name}': " in line for name, line in zip(names, lines, strict=True)] == [True] * len(names)
        assert all(any(f"run `{command.strip()}`" in line for command in made.stderr.splitlines()) for line in lines)
    commands = [shlex.split(line) for line in made.stderr.splitlines() if "kafka-configs.sh" in line]
    assert [command[command.index("--topic") + 1] for command in commands] == ["odd.events", "odd.changelog"]
    assert "cleanup.policy=compact" in commands[1][-1]
    checked = topics(bootstrap, "odd", "check")
    assert checked.returncode == 2
    assert checked.stderr == made.stderr, "apply changed an existing topic"


def test_missing_topic_and_other_number_of_shards_are_refused(bootstrap: str) -> None:
    """check exits with 2 and the remedy when a topic is missing; apply never changes the number of partitions."""
    create(bootstrap, "few", {"inbox": (3, {})})
    checked = topics(bootstrap, "few", "check")
    assert checked.returncode == 2
    assert "'few.events' does not exist" in checked.stderr
    assert f"stepstream topics apply --kafka {bootstrap} --namespace few --shards 3" in checked.stderr
    applied = topics(bootstrap, "few", "apply", "--shards", "4")
    assert applied.returncode == 2
    assert "3 shards, not 4" in applied.stderr


def test_check_repeats_in_its_remedy_what_was_given(bootstrap: str) -> None:
    """Nothing exists that the number of shards and the apps could be read from."""
    checked = topics(bootstrap, "nothing", "check", "--shards", "5", "--app", "shop", "--app", "mail")
    assert checked.returncode == 2
    remedy = f"stepstream topics apply --kafka {bootstrap} --namespace nothing --shards 5 --app shop --app mail"
    assert remedy in checked.stderr


def test_other_number_of_partitions_is_refused(bootstrap: str) -> None:
    """This includes the topic of an app, whose workers would miss commands: apply names it and creates no topic."""
    create(bootstrap, "uneven", {"inbox": (3, {}), "commands.shop": (2, {})})
    applied = topics(bootstrap, "uneven", "apply", *SHARDS)
    assert applied.returncode == 2
    assert "topic 'uneven.commands.shop' has 2 partitions instead of 3" in applied.stderr
    checked = topics(bootstrap, "uneven", "check")
    assert "topic 'uneven.events' does not exist" in checked.stderr


def test_engine_without_topics_says_what_to_run(bootstrap: str, tmp_path: Path) -> None:
    """It creates no topics: it ends with exit code 2 and the command that creates them."""
    with Fleet(bootstrap, "empty", tmp_path) as fleet:
        engine = fleet.add_engine()
        assert engine.process
        assert engine.process.wait(WAIT_S_MAX) == 2
    assert "topic 'empty.inbox' is missing; run `stepstream topics apply" in engine.log.read_text()


async def write_a_command(bootstrap: str, topic: str) -> None:
    """Let a shard write to a topic, in a transaction."""
    log = KafkaLog(Cluster(KafkaSettings(bootstrap, "gone")), SystemClock(), 1, 3)
    await log.open()
    try:
        await log.begin()
        await log.send([NewRecord(topic, 1, b"run", b"{}")], [])
        await log.commit({})
    finally:
        await log.close()


def test_deleted_commands_topic_is_recreated(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    """A shard with commands for it would block all other apps; the topic is created as apply creates it."""
    assert topics(bootstrap, "gone", "apply", *SHARDS).returncode == 0
    asyncio.run(write_a_command(bootstrap, "commands.taken-down"))
    assert "topics commands.taken-down were missing; created them, as `stepstream topics apply" in caplog.text
    checked = topics(bootstrap, "gone", "check", "--app", "shop", "--app", "taken-down")
    assert (checked.returncode, checked.stderr) == (0, "")
    with pytest.raises(LogError, match=r"topic commands\.no name is missing and cannot be created: .*--app 'no name'"):
        asyncio.run(write_a_command(bootstrap, "commands.no name"))


def test_all_differences_are_reported_at_once(bootstrap: str) -> None:
    """A missing topic, a wrong number of partitions, too few replicas and a wrong configuration are all reported."""
    create(bootstrap, "all", {"inbox": (3, {"retention.ms": "1000"}), "history": (2, {})})
    for arguments in (("check", "--replicas", "2"), ("apply", "--shards", "3", "--replicas", "2")):
        done = topics(bootstrap, "all", *arguments)
        assert done.returncode == 2
        assert "topic 'all.history' has 2 partitions instead of 3" in done.stderr
        assert "topic 'all.inbox': retention.ms is 1000 instead of 604800000" in done.stderr
        assert "topic 'all.inbox': each partition has 1 replica instead of 2" in done.stderr
        assert "kafka-configs.sh" in done.stderr
    assert "keys" in done.stderr, "no topic was created"
    assert "topic 'all.events' does not exist" in topics(bootstrap, "all", "check").stderr


def test_refusal_of_the_broker_is_reported_with_its_reason(bootstrap: str) -> None:
    """A topic that the broker refuses is named with the broker's reason and a remedy, and not reported as created."""
    applied = topics(bootstrap, "replicated", "apply", "--shards", "2", "--replicas", "3")
    assert applied.returncode == 2, applied.stdout
    assert "created" not in applied.stdout
    assert "'replicated.events'" in applied.stderr
    assert "INVALID_REPLICATION_FACTOR: " in applied.stderr
    assert "only 1 broker(s) are registered" in applied.stderr
    assert "another --replicas" in applied.stderr
    checked = topics(bootstrap, "replicated", "check")
    assert "'replicated.events' does not exist" in checked.stderr


def test_worker_without_topics_says_what_to_run(bootstrap: str, tmp_path: Path) -> None:
    """The remedy is a complete command with broker, namespace, shards and app."""
    (tmp_path / "shop.py").write_text("from stepstream import App\napp = App('shop')\n", encoding="utf-8")
    command = [sys.executable, "-m", "stepstream", "worker", "shop.py", "--kafka", bootstrap, "--namespace", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (remedy,) = re.findall("`stepstream (.*)`", done.stderr)
    applied = subprocess.run(
        [sys.executable, "-m", "stepstream", *shlex.split(remedy)], check=True, capture_output=True, text=True
    )
    assert "created commands.shop\n" in applied.stdout


def rendered(bootstrap: str, namespace: str, form: str) -> dict[str, tuple[int, dict[str, str]]]:
    """Return the topics in the output of `topics render`, parsed as the tool for its format parses it."""
    text = topics(bootstrap, namespace, "render", *SHARDS, "--format", form).stdout
    found: dict[str, tuple[int, dict[str, str]]] = {}
    if form == "strimzi":
        spec: dict[str, Any]
        for spec in (document["spec"] for document in yaml.safe_load_all(text)):
            config = {key: str(value) for key, value in spec["config"].items()}
            found[spec["topicName"].removeprefix(f"{namespace}.")] = (spec["partitions"], config)
        return found
    for words in map(shlex.split, text.splitlines()):
        options = list(itertools.pairwise(words))
        config = dict(value.split("=", 1) for option, value in options if option == "--config")
        plain = dict(options)
        found[plain["--topic"].removeprefix(f"{namespace}.")] = (int(plain["--partitions"]), config)
        assert plain["--bootstrap-server"] == bootstrap
    return found


@pytest.mark.parametrize("form", ["kafka", "strimzi"])
def test_render_prints_what_check_expects(bootstrap: str, form: str) -> None:
    """Topics created from the output of `topics render` pass `topics check`."""
    create(bootstrap, form, rendered(bootstrap, form, form))
    checked = topics(bootstrap, form, "check", "--app", "shop")
    assert checked.returncode == 0, checked.stderr
