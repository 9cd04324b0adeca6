"""What each open run waits for, found in its steps when they change, so that lists need not read steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from stepstream.contract.codec import load_json
from stepstream.contract.kinds import StepKind, StepStatus
from stepstream.contract.operators.approvals import APPROVAL_SIGNALS
from stepstream.contract.operators.run_requests import REQUEST_SIGNALS
from stepstream.contract.text.waits import read_several
from stepstream.runtime.readmodel.activity import WaitState
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.failed_attempts import MESSAGE_CHARACTERS_MAX
from stepstream.runtime.readmodel.tables.schema import rank_of, waits_in

_NAME_CHARACTERS_MAX = 200
_DETAIL_CHARACTERS_MAX = 1_024
_MEANT = {StepKind.WAIT: "event", StepKind.SIGNAL: "signal", StepKind.INVOKE: "run of"}


def retry(until: int) -> Mapping[str, Any]:
    """Return what a run waits for whose code between steps is tried again."""
    return _waits(WaitState.RETRYING, "", "", until)


def find_waits(db: Database, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Return what each of some runs waits for; those with a step that a worker has, and those without one, do not wait.

    Of several open steps it is the first by rank_of, and of its kind the one that ends first.
    """
    if not run_ids:
        return {}
    first = (
        f"SELECT o.step FROM steps AS o WHERE o.run_id = asked.run_id AND {waits_in('o.')} "
        f"ORDER BY {rank_of('o.')}, o.until, o.step LIMIT 1"
    )
    query = (
        f"WITH asked (run_id) AS (VALUES {', '.join(['(?)'] * len(run_ids))}) "
        f"SELECT s.run_id, s.status, s.kind, s.id, substr(s.detail, 1, {_DETAIL_CHARACTERS_MAX}), s.until, "
        f"CASE WHEN s.status = '{StepStatus.RETRYING}' THEN s.error END FROM asked "
        f"CROSS JOIN steps AS s ON s.run_id = asked.run_id AND s.step = ({first})"
    )
    rows = db.execute(query, run_ids)
    return {run_id: waits for run_id, *row in rows if (waits := _waits_of(*row)) is not None}


def _waits_of(status: str, kind: str, id: str, detail: str, until: int, error: str | None) -> Mapping[str, Any] | None:
    if status == StepStatus.RETRYING:
        return {**_waits(WaitState.RETRYING, id, "", until), "error": _small(error)}
    if kind == StepKind.SLEEP:
        return _waits(WaitState.SLEEPING, id, "", until)
    if (meant := _MEANT.get(StepKind(kind))) is None:
        return None
    return _waits(WaitState.WAITING, id, _name(meant, detail)[:_NAME_CHARACTERS_MAX], until)


def _small(error: str | None) -> Mapping[str, str] | None:
    """Return the name of an error, and the first line of its message."""
    found = load_json(error.encode(), own=True) if error else None
    if not isinstance(found, dict):
        return None
    return {"name": str(found["name"]), "message": str(found["message"]).partition("\n")[0][:MESSAGE_CHARACTERS_MAX]}


def _name(meant: str, detail: str) -> str:
    words, several = read_several(detail)
    if several:
        return f"{words} {', '.join(name for name, _ in several)}"
    name = detail.partition(" ")[0]
    own = {APPROVAL_SIGNALS: "an approval", REQUEST_SIGNALS: "a request"}
    return next((text for start, text in own.items() if name.startswith(start)), f"{meant} {name}")


def _waits(state: WaitState, step: str, name: str, until: int) -> Mapping[str, Any]:
    return {"state": state, "step": step, "name": name, "until": until}
