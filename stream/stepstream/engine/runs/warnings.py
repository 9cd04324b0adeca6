"""What a run is warned of: each warning is told once and stays on the run."""

from msgspec.structs import replace

from stepstream.contract.history import RunWarned
from stepstream.contract.limits import WARNINGS_PER_RUN_MAX
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run


def warned(draft: Draft, run: Run, warning: str) -> Run:
    """Return a run's row with a warning; a run that is replayed often gets each only once, and no more than some."""
    if warning in run.warnings or len(run.warnings) >= WARNINGS_PER_RUN_MAX:
        return run
    draft.tell(RunWarned(run.run_id, run.history_seq + 1, draft.now, warning))
    draft.count("run_warnings", run.function)
    return replace(run, warnings=(*run.warnings, warning), history_seq=run.history_seq + 1)
