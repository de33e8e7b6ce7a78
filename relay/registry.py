"""Everything that a relay can be asked to decide, by name: what members, strangers and the operator may ask for alike.

A *decision* here is a name, one struct of arguments, and a function of a core, these arguments and who asks. The
struct is what makes a door possible that can stand in another process: what comes through it is decoded and checked as
one type, like any other input from outside.

The invariant: **a decision is only carried out for the kind of asker that it was written for.** No member's request
becomes an operator's order because a name was guessed, and no key of a member's does more than its scope allows: this
is the one place that looks at it, whichever door a request came in by. What does not say that any key will do wants one
of scope `full`, so that a new decision is never open to more keys than was meant. That is why a door also *reads* by a
decision what not every key may see.

    class MemberSuspend(Arguments, frozen=True, kw_only=True):
        did: str
        reason: str | None = None

    @decision(by=Operator)
    async def member_suspend(core: Core, order: MemberSuspend, by: Operator) -> Answer: ...

The name is the function's. Importing the module in which it stands makes it known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from relay.principals import FULL, Asker, Principal, Scope
from relay.refusals import Refusal

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a decision is about. What is not known is refused: it comes from outside, or from a process or another node
    that may run a newer version, and would be left out in silence."""


@dataclass(frozen=True)
class Decision:
    """One thing that can be asked for."""

    name: str
    arguments: type[msgspec.Struct]
    run: Callable[[Any, Any, Any], Awaitable[Any]]
    #: What kind of asker it is for.
    by: type[Asker]
    #: It only reads: where no relay runs, it is asked of a directory that nobody has open (a `Readable`), and writes
    #: nothing. There it waits for nothing but `pause`.
    reads: bool = False
    #: It takes as long as it takes to rewrite a log.
    unhurried: bool = False
    #: It reads what a running relay remembers beside log and views: what it knows of sites, say. Of several nodes the
    #: one that leads does, so it is asked there; any other reading is answered by any node.
    remembered: bool = False
    #: With which arguments it is about the very node that is asked, whichever leads.
    of_this_node: Callable[[Any], bool] = lambda arguments: False
    #: Where a member asks, what its key must be good for.
    scope: Scope = FULL
    #: With which arguments it ends what was begun before a stop, so that it is carried out although the relay stops.
    ends_what_was_begun: Callable[[Any], bool] = lambda arguments: False
    #: The type of what it returns, for a door that stands in another process.
    answer: Any = Any


DECISIONS: dict[str, Decision] = {}


def decision(
    *,
    by: type[Asker],
    reads: bool = False,
    unhurried: bool = False,
    remembered: bool = False,
    of_this_node: Callable[[Any], bool] = lambda arguments: False,
    scope: Scope = FULL,
    ends_what_was_begun: Callable[[Any], bool] = lambda arguments: False,
) -> Callable[[Function], Function]:
    """Make an async function of (core, arguments, asker) known under its name. Its second parameter's type is the
    struct of its arguments, and what it says to return is the type of its answer."""

    def register(function: Function) -> Function:
        name = function.__name__
        assert name not in DECISIONS, f"two decisions are called {name}"
        hints = get_type_hints(function)
        _, arguments, _, answer = hints.values()
        assert issubclass(arguments, msgspec.Struct)
        assert arguments.__struct_config__.forbid_unknown_fields, f"{name} passes over what it does not know"
        DECISIONS[name] = Decision(
            name,
            arguments,
            function,
            by,
            reads,
            unhurried,
            remembered,
            of_this_node,
            scope,
            ends_what_was_begun,
            answer,
        )
        return function

    return register


def decision_for(name: str, asker: Asker) -> Decision:
    """The decision of this name for this kind of asker. Raises LookupError, or Refusal(SCOPE_INSUFFICIENT) for a member
    whose key is not good for it."""
    found = DECISIONS.get(name)
    if found is None or not isinstance(asker, found.by):
        raise LookupError(name)
    if isinstance(asker, Principal) and found.scope == FULL and asker.scope != FULL:
        raise Refusal(
            "SCOPE_INSUFFICIENT",
            "this API key has the scope `send`: it may send, and read messages, events and suppressions; for this use "
            "one of scope `full`, which another of scope `full` can make (`POST /v1/keys`), or the relay's operator",
        )
    return found
