"""Work that the body of a step simulates: it takes time, and does nothing else."""

from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.replay.tasks import current_body


async def simulate_work(duration: Duration) -> None:
    """Take time in the body of a step, in place of a service that a test or a demo does not call.

    The time is that of the engine: virtual in `VirtualEngine` and `stepstream replay`, where it passes at once and the
    run shows that the step took so long; real in `stepstream dev` and on Kafka. Where time is virtual, the body must do
    nothing else meanwhile: the clock does not wait for it.

    Raises `StepUsageError` outside of a body; use `ctx.step.sleep` there.

    Example:
        ```python
        async def charge(order: dict) -> str:
            await simulate_work("800ms")
            return f"receipt for {order['total']}"
        ```
    """
    length_ms = duration_ms(duration)
    body = current_body.get()
    if body is None:
        raise StepUsageError(
            "simulate_work was used outside of the body of a step; use it in a body, or ctx.step.sleep in the function"
        )
    if length_ms:
        await body.sleep(body, length_ms)
