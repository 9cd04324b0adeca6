"""The time from a published message to a page in Chromium, which reads the stream by EventSource."""

import asyncio
import statistics

from playwright.async_api import Page, async_playwright

from benchmarks.functions import Figure
from stepstream import Client
from tests.browser.conftest import find_chromium

# The page notes how many milliseconds each message took, by the clock of this machine, until the stream ends.
LISTEN = """(run) => new Promise((done) => {
  const taken = [];
  const source = new EventSource(`/v1/runs/${run}/stream?channel=times`);
  source.onmessage = ({ data }) => {
    taken.push(performance.timeOrigin + performance.now() - JSON.parse(data).data / 1e6);
  };
  source.addEventListener("end", () => { source.close(); done(taken); });
})"""


async def _taken_ms(url: str, count: int, pause_s: float) -> list[float]:
    async with async_playwright() as playwright, Client(url) as client:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-dev-shm-usage"])
        page: Page = await browser.new_page()
        await page.goto(f"{url}/ui/runs")
        handle = await client.start("publish", {"count": count, "pause_s": pause_s})
        taken: list[float] = await page.evaluate(LISTEN, handle.run_id)
        await browser.close()
        return taken


def measure(url: str, count: int, pause_s: float, retained: int) -> list[Figure]:
    """Publish a message every few milliseconds, as a model does; leave the first ones out, which arrive together."""
    taken = asyncio.run(_taken_ms(url, count, pause_s))
    assert len(taken) == count
    return [
        Figure("from publish to a page in Chromium, median", statistics.median(taken[retained:]), "ms"),
        Figure("from publish to a page in Chromium, p99", statistics.quantiles(taken[retained:], n=100)[98], "ms"),
    ]
