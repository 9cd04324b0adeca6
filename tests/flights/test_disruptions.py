"""What happens to the passengers of a flight that is late or does not arrive; it is the same in each replay."""

from collections.abc import Mapping

import flights
import pytest
from figures import disruptions
from test_events import CSV

from stepstream import Event
from stepstream.testing import RunView, VirtualEngine

# Of the payment of each, the first attempts fail; that of the second is declined after them.
PAID, DECLINED = "2013-01-01-EV4644-EWR", "2013-01-01-EV4462-EWR"


def closed(flight_id: str, *, status: str = "flown", delay_min: int = 0) -> Event:
    """Return the event that a flight is closed."""
    data: Mapping[str, object] = {"flight_id": flight_id, "status": status, "delay_min": delay_min}
    return Event("flight/closed", data=dict(data))


async def run_of(engine: VirtualEngine, event: Event) -> RunView:
    """Return the run that an event starts, an hour later."""
    await engine.send(event)
    await engine.advance("1h")
    return engine.run()


def test_some_of_a_day_fail_for_good() -> None:
    """Of the functions of the day, that of payments fails most."""
    assert disruptions(CSV) == {
        "compensate-passengers": {"completed": 18, "failed": 6},
        "rebook-passengers": {"failed": 1, "running": 10},
    }


async def test_services_take_time_and_are_called_again() -> None:
    """A step has the time of its last attempt, and each attempt that failed has the number of its request."""
    async with VirtualEngine(flights.app) as engine:
        run = await run_of(engine, closed(PAID, delay_min=222))
        assert run.status == "completed"
        (pay,) = (step for step in run.steps if step.id == "pay")
        assert pay.failures
        assert all("payment provider: 503 for request" in failure.message for failure in pay.failures)
        assert len({failure.message for failure in pay.failures}) == len(pay.failures)
        assert 1_500 <= (pay.ended_at or 0) - pay.started_at <= 20_000


async def test_a_declined_payment_fails_the_run() -> None:
    """Its error has the number of the payment."""
    async with VirtualEngine(flights.app) as engine:
        run = await run_of(engine, closed(DECLINED, delay_min=127))
        assert run.status == "failed"
        assert "is declined: the account is closed" in str(run.error)


@pytest.mark.parametrize(
    ("flight_id", "status", "code"),
    [
        pytest.param("2013-01-01-MQ4525-LGA", "diverted", "approval", id="a person decides on a hotel"),
        pytest.param("2013-01-01-AA791-LGA", "never_departed", "event", id="another airline confirms places"),
    ],
)
async def test_stranded_passengers_wait(flight_id: str, status: str, code: str) -> None:
    """A run says what it waits for."""
    async with VirtualEngine(flights.app) as engine:
        await run_of(engine, closed(flight_id, status=status))
        (why,) = await engine.why()
        assert why.code == code
