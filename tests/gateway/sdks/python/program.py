"""The acceptance program in Python; it also serves what its functions request."""

from typing import Any

import fastapi
import inngest.fast_api
import uvicorn

from tests.gateway.sdks.python import errors, extras, limits, steps
from tests.gateway.sdks.python.sdk import CLIENT, FUNCTIONS, PORT

MODULES = (errors, extras, limits, steps)
SERVER = fastapi.FastAPI()


@SERVER.post("/v1/chat/completions")
async def complete(request: fastapi.Request) -> Any:
    """Answer as a provider of a model does."""
    body = await request.json()
    return {"choices": [{"message": {"content": f"{body['model']}: {body['messages'][0]['content']}"}}]}


if __name__ == "__main__":
    inngest.fast_api.serve(SERVER, CLIENT, FUNCTIONS)
    uvicorn.run(SERVER, host="127.0.0.1", port=PORT, log_level="warning")
