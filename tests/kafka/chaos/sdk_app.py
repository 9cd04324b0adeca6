"""The app of the chaos tests of gateways, by the official SDK for Python: python -m tests.kafka.chaos.sdk_app PORT.

Each body appends a line to a file: its run and step, a new token, which is its result, and the results of the earlier
steps that it has seen. So the file shows which results come from bodies, and whether every body saw the same ones.
"""

import datetime
import os
import sys
import uuid
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import uvicorn

APP = "chaos"
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")
# Calls fail for as long as their app is down; no run may fail for that.
RETRIES = 20
NAP, HOUR = datetime.timedelta(milliseconds=200), datetime.timedelta(hours=1)
CLIENT = inngest.Inngest(app_id=APP)


async def effect(run_id: str, step: str, seen: list[str]) -> str:
    """Append a durable line with run, step, a new token and the results of earlier steps, and return the token."""
    token = uuid.uuid4().hex
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC)
    try:
        os.write(file, f"{' '.join((run_id, step, token, *seen))}\n".encode())
    finally:
        os.close(file)
    return token


def event(name: str, **data: Any) -> inngest.Event:
    """Return an event of a run with a number: it counts once, however often its step sends it."""
    return inngest.Event(name=f"chaos/{name}", data=data, id=f"{name}-{data['n']}")


@CLIENT.create_function(fn_id="answer", trigger=inngest.TriggerEvent(event="chaos/call"), retries=RETRIES)
async def answer(ctx: inngest.Context) -> Any:
    """Answer the calling run by the event that it waits for, which names this run."""
    await ctx.step.send_event("echo", event("echo", n=ctx.event.data["n"], by=ctx.run_id))
    return await ctx.step.run("answered", effect, ctx.run_id, "answered", [])


@CLIENT.create_function(fn_id="work", trigger=inngest.TriggerEvent(event="chaos/go"), retries=RETRIES)
async def work(ctx: inngest.Context) -> Any:
    """Run a step, then two in parallel with a sleep, and wait for an event that another run sends.

    Runs with odd numbers invoke the other function, the rest start it by an event.
    """
    number, step = int(str(ctx.event.data["n"])), ctx.step
    first = await step.run("first", effect, ctx.run_id, "first", [])
    left, right, _ = await ctx.group.parallel(
        (
            lambda: step.run("left", effect, ctx.run_id, "left", [first]),
            lambda: step.run("right", effect, ctx.run_id, "right", [first]),
            lambda: step.sleep("nap", NAP),
        )
    )

    async def call() -> Any:
        if number % 2:
            return await step.invoke("call", function=answer, data={"n": number})
        return await step.send_event("call", event("call", n=number))

    match = "event.data.n == async.data.n"
    echo, _ = await ctx.group.parallel(
        (lambda: step.wait_for_event("echo", event="chaos/echo", if_exp=match, timeout=HOUR), call)
    )
    results = [first, str(left), str(right)]
    last = await step.run("last", effect, ctx.run_id, "last", results)
    return {"n": number, "steps": [*results, last], "echo": dict(echo.data) if echo else None}


def main() -> None:
    """Serve the functions until the process ends."""
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, CLIENT, [work, answer])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)


if __name__ == "__main__":
    main()
