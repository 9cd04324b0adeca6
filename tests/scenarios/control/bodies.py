"""Bodies of steps that are counted while they run."""

import asyncio


class Bodies:
    """Counts the bodies that run at the same time, by key."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.ran: list[str] = []

    async def run(self, key: str, name: str) -> str:
        """Run for some turns of the event loop."""
        self.running[key] = self.running.get(key, 0) + 1
        self.most[key] = max(self.most.get(key, 0), self.running[key])
        self.ran.append(name)
        for _ in range(20):
            await asyncio.sleep(0)
        self.running[key] -= 1
        return name
