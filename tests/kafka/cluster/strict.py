"""A broker with an authorizer: its users may do only what was granted to them."""

from collections.abc import Mapping
from pathlib import Path

from tests.kafka.cluster.broker import Broker, BrokerOptions

_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def strict_broker(folder: Path, port: int, users: Mapping[str, str]) -> Broker:
    """Make a broker with a listener for these users, name to password; its plain listener may do everything."""
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    properties = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f"{_LOGIN} {known};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    return Broker(folder, BrokerOptions(listeners=[f"SASL_PLAINTEXT://127.0.0.1:{port}"], properties=properties))
