"""What a run logged: the lines of each attempt of its steps, and of the code between them."""

from collections.abc import Sequence

import htpy as h

from stepstream.api.pages.parts.components import at, text
from stepstream.api.pages.parts.context import Site
from stepstream.contract.text.wording import counted
from stepstream.runtime.readmodel.tables.logged_lines import LoggedLine
from stepstream.runtime.readmodel.views import RunView

LINES_MAX = 1_000
_TEXT_CHARACTERS = 2_000


async def logs_view(site: Site, run: RunView) -> h.Element | None:
    """Return the logs of a run, the first LINES_MAX lines; None if there are none."""
    lines = await site.runs.queries.logs(run.run_id, limit=LINES_MAX + 1)
    if not lines:
        return None
    names = {step.step: step.id for step in run.steps}
    groups: dict[tuple[str, int], list[LoggedLine]] = {}
    for line in lines[:LINES_MAX]:
        groups.setdefault((line.step, line.attempt), []).append(line)
    return h.section(aria_labelledby="logs")[
        h.h2("#logs")["Logs"],
        [_attempt(step, attempt, names, found) for (step, attempt), found in groups.items()],
        h.p[f"Only the first {LINES_MAX:,} lines are shown: ", h.code[f"stepstream runs show {run.run_id} --logs"]]
        if len(lines) > LINES_MAX
        else None,
    ]


def _attempt(step: str, attempt: int, names: dict[str, str], lines: Sequence[LoggedLine]) -> h.Element:
    name = ["Step ", text(names.get(step, step))] if step else "Code between steps"
    more = f", attempt {attempt + 1}" if attempt else ""
    return h.details(f"#logs-{step or 'code'}-{attempt}", open=True)[
        h.summary[name, more, f": {counted(len(lines), 'line')}"],
        # As strings: there may be many lines.
        h.ol(".logs")[[str(_line(line)) for line in lines]],
    ]


def _line(line: LoggedLine) -> h.Element:
    level = line.level.lower() if line.level in ("WARNING", "ERROR", "CRITICAL") else "info"
    head = [at(line.at), " ", text(line.level), " ", text(line.logger), " "]
    return h.li(f".is-{level}-line")[head, h.span(".text")[text(line.text, _TEXT_CHARACTERS)]]
