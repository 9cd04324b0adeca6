"""A gateway that repeats a failed call after a second, and a call of a lost worker after ten.

The SDKs' own back-off begins with 15 s, and a worker may be silent for a minute.
"""

import functools

from stepstream.cli.main import main
from stepstream.gateway.connect.connect_server import ConnectServer
from stepstream.gateway.connect.worker_call import ConnectTimes
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.sdk.function import RetryPolicy


def _hasty(self: RemoteFunction) -> RetryPolicy:
    return RetryPolicy(self.registered.retries, "1s")


if __name__ == "__main__":
    times = ConnectTimes(lease_s=10.0, extend_s=3.0)
    ConnectServer.__init__ = functools.partialmethod(ConnectServer.__init__, times=times)  # type: ignore[assignment,method-assign]
    RemoteFunction.policy = property(_hasty)  # type: ignore[assignment,method-assign]
    main()
