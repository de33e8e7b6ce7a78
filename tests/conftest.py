"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

from tests.house.time_limit import (
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
]

# A shell that runs us in the background has Ctrl-C ignored, and every program that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes, or the first text, for which hypothesis makes a table of all characters, says something of
# the machine and nothing of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
