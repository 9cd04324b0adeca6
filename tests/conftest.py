"""What applies to every test: loggers are restored, tests share a broker, and what was left out is reported."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, settings

from stepstream.host.serving import collect_garbage_seldom
from tests.kafka.cluster.broker import fast_folder, running_broker
from tests.kafka.cluster.java import NoBrokerError
from tests.polling import ANSWER_S_MAX
from tests.postgresql import NoServerError, PostgresqlServer, running_server

# Marks that leave tests out, and the commands that run them.
LEFT_OUT = {"long": "make test-long", "kafka": "make test", "slow": "make test"}
_COUNTS = pytest.StashKey[Counter[str]]()


def pytest_configure() -> None:
    """Let the processes of tests react to Ctrl-C, which a background job of a script ignores, and its children too.

    A loaded machine may need more for a request than the 5 s of httpx, and more for an example of a property than the
    200 ms of Hypothesis.
    """
    settings.register_profile("loaded", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("loaded")
    for phase in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, phase, ANSWER_S_MAX)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that are marked `first`."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Restore the loggers after a test: the root's handlers write to a stream that is closed with the test."""
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(f"stepstream{name}") for name in ("", ".step", ".code", ".run"))]
    handlers, levels = root.handlers[:], [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """The address of the broker that all tests of this process share; each test has a separate namespace."""
    with running_broker(parent=fast_folder()) as address:
        yield address


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """The PostgreSQL server that all tests of this process share; each test has a separate database."""
    with running_server() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a missing server by its one sentence, which says what to install, instead of a traceback."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, NoBrokerError | NoServerError):
        report.longrepr = str(call.excinfo.value)
    return report


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that -m left out, by the first mark that did."""
    for item in items:
        mark = next((mark for mark in LEFT_OUT if item.get_closest_marker(mark)), "")
        _counts(item.config)[mark] += 1


def _counts(config: pytest.Config) -> Counter[str]:
    return config.stash.setdefault(_COUNTS, Counter[str]())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of CI that skipped a test; in a worker of pytest-xdist, send the counts to its controller."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(_counts(config))
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the counts of a worker of pytest-xdist; all workers have the same."""
    node.config.stash[_COUNTS] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many tests were left out, and which command runs them."""
    for mark, count in sorted(_counts(config).items()):
        where = f" marked {mark} (`{LEFT_OUT[mark]}` runs them)" if mark else ""
        terminalreporter.write_line(f"left out: {count} tests{where}")
    if os.environ.get("CI") == "true" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("skipped tests fail the run, because CI=true", red=True)


def pytest_collection_finish() -> None:
    """Keep garbage collection from walking all test modules again and again."""
    collect_garbage_seldom()
