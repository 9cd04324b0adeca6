"""Take the pictures of the documents: the page of the day of flights that the demo replays.

    make screenshots

It replays the day without a kill, serves it by `stepstream dev`, and writes docs/images. It needs Playwright (the group
`browser` of pyproject.toml) and a Chromium.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from demo import FLIGHTS, HERE, STEPSTREAM, replay_command
from flights_events import write_events
from playwright.sync_api import sync_playwright

IMAGES = HERE.parent / "docs" / "images"
# A late flight whose passengers were warned, since its aircraft was late before it.
RUN = "/ui/find?id=2013-01-01-EV4321-EWR/scheduled"
# The path and the size in pixels of each picture.
PICTURES = {
    "runs": ("/ui/runs?" + urlencode({"filter": 'function:follow-flight cel:"output.delay_min >= 120"'}), 1120, 480),
    "run": (RUN, 1120, 580),
    "functions": ("/ui/functions", 1120, 490),
}


@contextmanager
def served_day(folder: Path) -> Iterator[str]:
    """Replay the day, and give the address of the process that serves it."""
    events, app, data = folder / "events.jsonl", str(HERE / "flights.py"), str(folder / "state")
    write_events(FLIGHTS, events)
    replay = [*replay_command(events, Path(data)), "--progress", "none"]
    subprocess.run(replay, check=True, stdout=subprocess.DEVNULL)
    command = [STEPSTREAM, "dev", app, "--data-dir", data, "--no-reload", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        found = next((found for line in serving.stdout if (found := re.search(r"http://\S+(?=/ui)", line))), None)
        try:
            yield found[0] if found else sys.exit("the day could not be served")
        finally:
            serving.terminate()


def take(address: str) -> None:
    """Write the pictures, in the light scheme."""
    chromium = shutil.which("chromium") or sys.exit("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, (path, width, height) in PICTURES.items():
            page = browser.new_page(color_scheme="light", viewport={"width": width, "height": height})
            page.goto(address + path, wait_until="load")
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()
        browser.close()


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stepstream-pictures-") as folder, served_day(Path(folder)) as address:
        take(address)


if __name__ == "__main__":
    main()
