"""How to reach a Kafka cluster, as settings have it."""

import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach a cluster; `namespace` goes before the name of every topic, group and transactional id."""

    bootstrap: str = "127.0.0.1:9092"
    namespace: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def name(self, plain: str) -> str:
        """Return a name within the namespace."""
        return f"{self.namespace}.{plain}" if self.namespace else plain

    def plain(self, name: str) -> str:
        """Return a name without the namespace."""
        return name.removeprefix(f"{self.namespace}.") if self.namespace else name

    def client_options(self) -> dict[str, Any]:
        """Return what every client of the cluster must be told."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
            options["ssl_context"] = context
        return options
