"""Every server that bounces, by its name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tests.world.bouncers import Bouncer
from tests.world.bouncers.exim import running_exim_bouncer
from tests.world.bouncers.opensmtpd import running_opensmtpd_bouncer
from tests.world.bouncers.postfix import running_postfix_bouncer


class Run(Protocol):
    def __call__(self, *, next_hop: int, home: int) -> AbstractContextManager[Bouncer]: ...


BOUNCERS: dict[str, Run] = {
    "postfix": running_postfix_bouncer,
    "exim": running_exim_bouncer,
    "opensmtpd": running_opensmtpd_bouncer,
}
