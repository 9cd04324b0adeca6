"""What a browser reports while it shows the page: violations of the policy, errors and failed requests."""

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response, WebError

# A violation of the policy is reported to the console in any case; this names the directive.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI}`);
});
"""
# The page was left, or a download took the request over.
_LEFT = "net::ERR_ABORTED"


class Watch:
    """Collects what goes wrong in any window of a test; what a test expects is left out."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._expected: list[str] = []

    def expect(self, *parts: str) -> None:
        """Accept reports that contain one of these texts."""
        self._expected += parts

    def observe(self, context: BrowserContext) -> None:
        """Collect the reports of each window of a context."""
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    def faults(self) -> list[str]:
        """Return the unexpected reports."""
        return [fault for fault in self._faults if not any(part in fault for part in self._expected)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _error(self, error: WebError) -> None:
        self._faults.append(f"script: {error.error}")

    def _failed(self, request: Request) -> None:
        if request.failure != _LEFT:
            self._faults.append(f"request: {request.failure} {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._faults.append(f"status {response.status}: {response.url}")
