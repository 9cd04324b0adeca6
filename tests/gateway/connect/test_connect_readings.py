"""The metrics of connected workers."""

from stepstream.gateway.connect.connect_readings import connect_readings
from tests.fakes.waiting import until
from tests.gateway.connect.worker import serving


async def test_connections_and_calls_are_measured_by_app() -> None:
    """Each call is counted in its phase; what there is no longer is 0."""

    def read() -> dict[tuple[str, ...], float]:
        readings = connect_readings(server.connect.calls)
        return {(each.name, *each.labels): each.value for each in readings if each.value}

    async with serving(lease_s=0.05) as server:
        assert not list(connect_readings(server.connect.calls))
        async with server.worker(max_worker_concurrency=2) as worker:
            calls = [server.call(request=str(number)) for number in range(3)]
            await worker.acknowledge(await worker.asked())
            await worker.asked()
            await worker.heartbeat()
            phases = {("connect_calls", "demo", phase): 1 for phase in ("leased", "sent", "waiting")}
            assert read() == {("connect_connections", "demo", "ready"): 1} | phases
        await until(lambda: ("connect_leases_lost", "demo") in read())
        assert read() == {("connect_calls", "demo", "waiting"): 3, ("connect_leases_lost", "demo"): 1}
        for call in calls:
            call.cancel()
        await until(lambda: read() == {("connect_leases_lost", "demo"): 1})
