"""`stepstream runs show --logs` prints what a run logged, attempt by attempt."""

import logging
from pathlib import Path

from stepstream import App, Context, Event, on
from stepstream.testing import VirtualEngine
from tests.cli.refusals import invoke

HOSTILE = "\x1b[31mred\x1b]8;;http://evil\x07 [bold]\u202e\nlogs of step 'charge'"
app = App("shop")


@app.function(on("go"), retries=1)
async def pay(ctx: Context) -> None:
    """Run a step whose first attempt fails."""
    attempts: list[str] = ["again", HOSTILE]

    def charge() -> None:
        logging.getLogger("bank[/x]").warning("%s", attempts.pop())
        if attempts:
            raise ValueError("down")

    await ctx.step.run("charge", charge)


async def test_show_prints_the_lines_of_each_attempt(tmp_path: Path) -> None:
    """Each attempt has a heading, and hostile text neither controls the terminal nor looks like another line."""
    async with VirtualEngine(app, data_dir=tmp_path) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run_id = engine.run().run_id
    shown = ("runs", "show", run_id, "--data-dir", tmp_path)
    assert "logs of" not in invoke(*shown).stdout
    printed = invoke(*shown, "--logs").stdout
    lines = [line.rstrip() for line in printed.split("\n")]
    at = lines.index("logs of step 'charge'")
    assert lines[at + 1].endswith("WARNING bank[/x]: \\u001b[31mred\\u001b]8;;http://evil\\u0007 [bold]\\u202e")
    assert lines[at + 2 : at + 4] == ["    logs of step 'charge'", "logs of step 'charge', attempt 2"]
    assert lines[at + 4].endswith("WARNING bank[/x]: again")
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
