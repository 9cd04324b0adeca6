"""The settings for a connection to a Kafka cluster."""

import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.kafka.client.certificates import RenewedContext

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_BROKER = re.compile(r"\s*(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:([0-9]{1,5}))?\s*")
_PORT_MAX = 65_535
SESSION_S = 10.0
TRANSACTION_S = 10.0
# Below a second, any pause of a healthy process ends its session; brokers allow a transaction 900 s by default.
_SECONDS_MIN, _SECONDS_MAX = 1.0, 900.0


class KafkaSettingsError(StepstreamError):
    """A Kafka setting is wrong; the message has the name of its variable, and what is expected."""

    code = "settings"

    def __init__(self, name: str, value: str, reason: str) -> None:
        super().__init__(f"STEPSTREAM_KAFKA_{name.upper()} {value!r}: {reason}")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A cluster and its security; `namespace` prefixes the name of every topic, group and transactional id.

    Protocol and mechanism may be in lower case. Raises KafkaSettingsError.

    session_s      after how many silent seconds a consumer group gives the partitions of a member to others
    transaction_s  how many seconds a commit may take; afterwards the broker aborts the transaction
    """

    bootstrap: str = "127.0.0.1:9092"
    namespace: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    session_s: float = SESSION_S
    transaction_s: float = TRANSACTION_S

    def __post_init__(self) -> None:
        if not all(map(_is_broker, self.bootstrap.split(","))):
            reason = "expected HOST:PORT, several separated by commas (--kafka is the same)"
            raise KafkaSettingsError("bootstrap", self.bootstrap, reason)
        for name, choices in (("security_protocol", PROTOCOLS), ("sasl_mechanism", MECHANISMS)):
            value = str(getattr(self, name))
            if value.upper() not in choices:
                raise KafkaSettingsError(name, value, f"expected one of {', '.join(choices)}")
            object.__setattr__(self, name, value.upper())
        for name in ("session_s", "transaction_s"):
            object.__setattr__(self, name, _seconds(name, str(getattr(self, name))))

    def name(self, plain: str) -> str:
        """Return a name within the namespace."""
        return f"{self.namespace}.{plain}" if self.namespace else plain

    def plain(self, name: str) -> str:
        """Return a name without the namespace."""
        return name.removeprefix(f"{self.namespace}.") if self.namespace else name

    def client_options(self) -> dict[str, Any]:
        """Return the options of every client of the cluster; raise KafkaSettingsError if a file cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    raise KafkaSettingsError(name, "", f"{self.security_protocol} requires it")
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            files = [file for file in (self.ca_file, self.cert_file, self.key_file) if file]
            options["ssl_context"] = RenewedContext(self._ssl_context, files)
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise KafkaSettingsError("ca_file", self.ca_file, f"no certificates to trust: {error.strerror}") from None
        if not self.cert_file:
            return context
        try:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        except OSError as error:
            reason = f"no certificate with the key of STEPSTREAM_KAFKA_KEY_FILE {self.key_file!r}: {error.strerror}"
            raise KafkaSettingsError("cert_file", self.cert_file, reason) from None
        return context


def _seconds(name: str, text: str) -> float:
    with suppress(ValueError):
        if _SECONDS_MIN <= float(text) <= _SECONDS_MAX:
            return float(text)
    raise KafkaSettingsError(name, text, f"expected a number of seconds from {_SECONDS_MIN:g} to {_SECONDS_MAX:g}")


def _is_broker(text: str) -> bool:
    found = _BROKER.fullmatch(text)
    return found is not None and int(found[3] or 1) in range(1, _PORT_MAX + 1)
