"""Answers of the API that may be large."""

from fastapi.responses import Response

from stepstream.contract.codec import encode


def json_response(value: object) -> Response:
    """Return records, dataclasses and JSON values as JSON.

    FastAPI would copy and validate every element: 4 MiB of numbers would block the event loop, and so the shards of the
    process, for half a second.
    """
    return Response(encode(value), media_type="application/json")
