"""What may be a part of the name of a topic."""

import re

from stepstream.contract.errors import InvalidInput

_TOPIC_PART = re.compile(r"[A-Za-z0-9._-]+")


def check_topic_part(name: str) -> None:
    """Raise InvalidInput for what cannot be a part of the name of a topic of Kafka."""
    if not _TOPIC_PART.fullmatch(name):
        raise InvalidInput("letters a to z and A to Z, digits, '.', '_' and '-' are wanted, as Kafka allows no others")
