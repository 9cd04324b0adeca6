"""Tests of your functions: the real engine in memory, with a clock that only the test moves."""

from stepstream.runtime.readmodel.views import RunView, StepView
from stepstream.sdk.simulated_work import simulate_work
from stepstream.testing.crashes import Crash
from stepstream.testing.replay_check import ReplayMismatch
from stepstream.testing.virtual_engine import START_MS, VirtualEngine

__all__ = ["START_MS", "Crash", "ReplayMismatch", "RunView", "StepView", "VirtualEngine", "simulate_work"]
