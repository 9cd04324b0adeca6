"""What the client of the commands says when no usable answer comes, over real sockets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from stepstream.cli.main import cli

# Each command that changes something, and what may have happened without an answer; listing runs changes nothing.
COMMANDS = (
    (("send", "go"), "The event may have been accepted; with an --id it would be safe to send it again"),
    (("send", "go", "--id", "7"), "its --id makes it safe to send it again"),
    (("signal", "go"), "The signal may have been delivered"),
    (("runs", "cancel", "0" * 26), "The run may have been cancelled"),
    (("runs", "list"), ""),
)


@contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Yield the address of a server that does something with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def check_no_answer(url: str, words: str, *, unsure: bool) -> None:
    """Run each command against a server that gives no answer."""
    for arguments, possible in COMMANDS:
        done = CliRunner().invoke(cli, [*arguments, "--url", url])
        assert done.exit_code == 3, done.output
        assert words in done.stderr
        assert ("start `stepstream dev" in done.stderr) == (not unsure)
        assert not possible or (possible in done.stderr) == unsure


def test_a_missing_server_is_reported_as_such() -> None:
    """The request was certainly not carried out; the error says how to start an engine."""
    with server(lambda _: None) as url:
        pass
    check_no_answer(
        url, "start `stepstream dev FILE` or `stepstream engine`, or give --url or STEPSTREAM_URL", unsure=False
    )
    check_no_answer("http://no-such-host.invalid", "start `stepstream dev FILE`", unsure=False)


def test_a_silent_server_is_not_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request may have been carried out, and the error says how to find out or repeat it."""
    monkeypatch.setattr("stepstream.cli.client.TIMEOUT_S", 0.05)
    with server(lambda _: None) as url:
        check_no_answer(url, "(timed out after 0.05 s), although a server listens there", unsure=True)


def test_a_broken_connection_is_not_a_missing_server() -> None:
    """The same holds for a server that closes the connection."""

    def read_and_close(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.close()

    with server(read_and_close) as url:
        check_no_answer(url, "the connection broke; see the log of the server", unsure=True)


def test_no_redirect_is_followed() -> None:
    """The key and the event go to the given address only."""
    requests = []

    def redirect(connection: socket.socket) -> None:
        requests.append(connection.recv(65_536).partition(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    with server(redirect) as url:
        done = CliRunner().invoke(cli, ["runs", "list", "--url", url])
    assert (done.exit_code, "(status 307) but is not stepstream" in done.stderr) == (3, True)
    assert requests == [b"GET /v1/runs?filter=&function=&status=&limit=50 HTTP/1.1"]
