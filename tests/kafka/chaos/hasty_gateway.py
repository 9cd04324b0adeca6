"""A gateway that repeats a failed call after a second, while the SDKs' own back-off begins with 15 s."""

from stepstream.cli.main import main
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.sdk.function import RetryPolicy


def _hasty(self: RemoteFunction) -> RetryPolicy:
    return RetryPolicy(self.registered.retries, "1s")


if __name__ == "__main__":
    RemoteFunction.policy = property(_hasty)  # type: ignore[assignment,method-assign]
    main()
