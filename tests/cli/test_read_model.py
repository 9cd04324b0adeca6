"""`stepstream readmodel` prepares a database, and says in one sentence what is wrong with it."""

import json
import sys
from contextlib import closing

import pytest

from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables
from tests.cli.refusals import assert_refused, invoke
from tests.postgresql import PASSWORD, PostgresqlServer
from tests.runtime.readmodel.shard_history import folded, history

MODULE = "stepstream.runtime.readmodel.postgresql_tables"


@pytest.mark.long
def test_tables_are_created_once(postgresql: PostgresqlServer) -> None:
    """The URL is that of the variable; a second call changes nothing, and so does a migration."""
    env = {"STEPSTREAM_READ_MODEL": postgresql.database(prepared=False)}
    assert_refused(
        invoke("readmodel", "migrate", env=env), "has no tables; create them by `stepstream readmodel create`"
    )
    for command, said in (
        (["create"], "the tables were created; engines fill them"),
        (["create"], "the tables exist already"),
        (["migrate"], "the tables are those of this release"),
        (["create", "--replace"], "the tables were created; engines fill them"),
    ):
        done = invoke("readmodel", *command, env=env)
        assert done.exit_code == 0, done.output
        assert said in done.output


@pytest.mark.long
def test_a_wrong_password_is_refused_and_not_shown(postgresql: PostgresqlServer) -> None:
    """The server's reason is."""
    url = postgresql.database().replace(PASSWORD, "wr0ng-secret")
    done = invoke("readmodel", "create", "--read-model", url)
    assert_refused(done, "password authentication failed")
    assert "wr0ng-secret" not in done.output


def test_a_server_that_is_down_is_reported() -> None:
    """Nothing listens on the port."""
    done = invoke("readmodel", "create", "--read-model", "postgresql://u:s3cret@127.0.0.1:1/d")
    assert_refused(done, "the read model at 127.0.0.1:1/d cannot be used")
    assert "s3cret" not in done.output


def test_commands_need_the_url_of_a_database() -> None:
    """A command without one is refused, and a wrong one is not repeated."""
    assert_refused(invoke("readmodel", "create"), "read_model is not set")
    done = invoke("readmodel", "create", "--read-model", "postgresql://u:s3cret@h/d?nothing=1")
    assert_refused(done, "read_model: write postgresql://USER:PASSWORD@HOST")
    assert "s3cret" not in done.output


def test_a_missing_client_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = invoke("readmodel", "create", "--read-model", "postgresql://h/d")
    assert_refused(done, "install it by `pip install 'stepstream[postgresql]'`")


def test_a_size_of_a_database_is_refused_before_the_question() -> None:
    """The command asks for no confirmation of what it refuses, and does not connect to the server, which is down."""
    done = invoke(
        "runs", "prune", "--max-bytes", 1, "--older-than", "1h", "--read-model", "postgresql://u:p@127.0.0.1:1/d"
    )
    assert_refused(done, "do not become smaller")
    assert "Drop" not in done.output


@pytest.mark.long
def test_runs_of_a_database_are_pruned_by_age(postgresql: PostgresqlServer) -> None:
    """The variable names it unless a folder is given; a size is refused with the reason, and drops nothing."""
    url = postgresql.database()
    with closing(RunIndex(PostgresqlTables(url))) as index:
        folded(index, history(0, 5))
    env = {"STEPSTREAM_READ_MODEL": url}
    assert_refused(invoke("runs", "prune", "--max-bytes", 1, "--yes", env=env), "do not become smaller")
    assert_refused(invoke("runs", "prune", "--older-than", "0s", "--data-dir", "none", env=env), "none has no runs")
    done = invoke("runs", "prune", "--older-than", "0s", "--yes", "--json", env=env)
    found = json.loads(done.stdout)
    assert (found["dropped"], found["bytes"] > 0) == (5, True)
    assert json.loads(invoke("runs", "prune", "--older-than", "0s", "--json", env=env).stdout)["dropped"] == 0
