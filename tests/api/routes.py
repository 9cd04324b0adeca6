"""The routes that pause and resume something."""

PAUSABLE = ("runs/{run_id}", "functions/{function_id}", "queues/{app}/{queue}")
PAUSE_ROUTES = {"/v1/pauses", *(f"/v1/{what}/{verb}" for what in PAUSABLE for verb in ("pause", "resume"))}
