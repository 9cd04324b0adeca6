"""Connections to brokers use the certificates that the files have when they begin."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from stepstream.runtime.kafka.client.settings import KafkaSettings, KafkaSettingsError


class Authority:
    """A certificate authority that issues the certificates of a server and of a client."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def write(self, folder: Path, name: str, *, with_key: bool = True) -> None:
        """Write the certificate of the authority, and a new one of a client, with its key or without."""
        issued = self._authority.issue_cert(name)
        (folder / "ca.crt").write_bytes(self._authority.cert_pem.bytes())
        (folder / "tls.crt").write_bytes(issued.cert_chain_pems[0].bytes())
        if with_key:
            (folder / "tls.key").write_bytes(issued.private_key_pem.bytes())

    @asynccontextmanager
    async def server(self) -> AsyncIterator[tuple[int, list[str]]]:
        """Run a server that requires certificates of clients; yield its port, and the names of its clients."""
        context, names = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), list[str]()
        self._authority.issue_cert("127.0.0.1").configure_cert(context)
        self._authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            names.append(writer.get_extra_info("peercert")["subjectAltName"][0][1])
            writer.write(b"!")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", ssl=context)
        async with server:
            yield server.sockets[0].getsockname()[1], names


async def connect(port: int, context: Any) -> bytes:
    """Connect to a server, and return what it says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = await reader.read(1)
    writer.close()
    return found


def settings(folder: Path) -> KafkaSettings:
    """Return settings whose files are in a folder."""
    ca_file, cert_file, key_file = (str(folder / name) for name in ("ca.crt", "tls.crt", "tls.key"))
    return KafkaSettings(security_protocol="SSL", ca_file=ca_file, cert_file=cert_file, key_file=key_file)


async def test_connections_use_a_renewed_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client needs no restart; a certificate without its key is not used, and is logged once."""
    authority = Authority()
    authority.write(tmp_path, "first.local")
    context = settings(tmp_path).client_options()["ssl_context"]
    async with authority.server() as (port, names):
        assert await connect(port, context) == b"!"
        authority.write(tmp_path, "half.local", with_key=False)
        assert [await connect(port, context) for _ in range(2)] == [b"!", b"!"]
        authority.write(tmp_path, "second.local")
        assert await connect(port, context) == b"!"
        (tmp_path / "tls.crt").unlink()
        assert await connect(port, context) == b"!"
    assert names == ["first.local", "first.local", "first.local", "second.local", "second.local"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "renewed certificates are not used, but the earlier ones: STEPSTREAM_KAFKA_CERT_FILE" in caplog.text


async def test_connections_trust_a_renewed_authority(tmp_path: Path) -> None:
    """A server with a certificate of the new one is trusted, and one of the old authority no longer."""
    old, new = Authority(), Authority()
    old.write(tmp_path, "old.local")
    context = settings(tmp_path).client_options()["ssl_context"]
    new.write(tmp_path, "new.local")
    async with new.server() as (port, names):
        assert await connect(port, context) == b"!"
    assert names == ["new.local"]
    async with old.server() as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, context)


def test_files_that_are_missing_at_the_start_are_refused(tmp_path: Path) -> None:
    """There is no earlier context."""
    with pytest.raises(KafkaSettingsError, match="no certificates to trust"):
        settings(tmp_path).client_options()
