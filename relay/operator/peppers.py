"""The operator's command that gives the relay another pepper.

The invariant: **what was derived from an older pepper stays good, whatever is killed when.** A pepper is a file that is
never changed: `pepper`, then `pepper.2`, and so on. The new file is durable before the event that brings it into use;
killed in between, there is a file that nothing uses, and the next rotation takes it. From the event on, API keys are
hashed and mail's tokens and addresses made by the new one. Mail that was accepted before is composed by its own, so
that every attempt sends the same bytes; hashes, links and addresses of before are known by the older ones.
"""

from __future__ import annotations

from relay.core import Core
from relay.events import Event, PepperRotated
from relay.message.key_files import pepper_name
from relay.message.keys import make_pepper
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.views import peppers
from spool.views import Snapshot


class PepperRotate(Arguments, frozen=True, kw_only=True):
    """There is nothing to say."""


@decision(by=Operator)
async def pepper_rotate(core: Core, order: PepperRotate, by: Operator) -> CommandAnswer:
    """Raises KeyFileError, OSError."""
    with core.store.read() as view:
        number = peppers.current(view) + 1
    pepper = await core.surroundings.offload(make_pepper, core.directory, number)
    # Before anything can have been made by it.
    core.pepper.add(number, pepper)
    core.composer.add_pepper(number, pepper)
    for observer in list(core.pepper_observers):
        await observer(number, pepper)

    def decide(view: Snapshot) -> list[Event]:
        # Another order may have come first, and brought the same file into use.
        return [PepperRotated(number=number, by=by.user)] if peppers.current(view) < number else []

    await core.store.decide(decide)
    core.pepper.use(number)
    return {"number": number, "file": pepper_name(number)}
