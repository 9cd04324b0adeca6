"""Answers of the API that may be large."""

from fastapi.responses import Response

from stepstream.contract.codec import encode


def json_response(value: object) -> Response:
    """Return records, dataclasses and JSON values as JSON.

    FastAPI would copy and check each part of the value, which takes half a second for 4 MiB of numbers; shards of the
    process would wait meanwhile.
    """
    return Response(encode(value), media_type="application/json")
