"""One message as the operator sees it: who ordered what, the acts, and its audit, with a text for its member."""

from __future__ import annotations

from relay.api.messages import detail_of
from relay.console.pages import Context, Page, See, page
from relay.console.rendering import exact
from relay.console.visit import Visit
from relay.events import NOBODY
from relay.operator_console.command_line import CommandLine
from relay.operator_console.queue import ACTS
from relay.refusals import Refusal
from relay.story_in_words import last_words, next_attempt, quoted, sentence, steps, what_to_do
from relay.views import messages


def pages(command_line: CommandLine) -> tuple[Page, ...]:
    @page("GET", "/messages", "operator_message_by_id.html", "A message by its number", arguments=("id",))
    async def by_id(visit: Visit) -> Context | See:
        given = visit.argument("id")
        return {} if given is None else See(f"/messages/{_id_in(given)}")

    @page("GET", "/messages/{message_id}", "operator_message.html", "Message")
    async def message(visit: Visit) -> Context:
        message_id = _id_in(visit.in_path["message_id"])
        shown = await visit.order("queue_show", message=message_id)
        # What the member is told, in the same words; the table beside it has what only the operator may know.
        told = detail_of(visit.store, shown["did"], message_id, None)
        with visit.store.read() as view:
            state = messages.message(view, message_id)
        assert state is not None
        return {
            "message": shown,
            "sentence": sentence(told),
            "next_attempt": next_attempt(told),
            "to_do": what_to_do(told),
            "last_words": last_words(told),
            "steps": {step.entry.seq: step for step in steps(told)},
            "is_members": shown["did"] != NOBODY,
            "domain": state.domain,
            "is_waiting": shown["site"] is not None,
            "acts": ACTS,
        }

    @page("GET", "/messages/{message_id}/audit", "operator_printed.html", "Audit of a message")
    async def audit(visit: Visit) -> Context:
        message_id = _id_in(visit.in_path["message_id"])
        # Before a process is begun for it.
        shown = await visit.order("queue_show", message=message_id)
        printed = await command_line.run("log", "audit", after=("--message", str(message_id)))
        return {
            "lead": "The whole story of the message, and whether its bytes and signatures hold. It is for you alone: "
            "it names who ordered what, and whence reports came.",
            "for_member": _for_member(visit, shown["did"], message_id),
            "printed": printed,
            "command": f"atmos-relay log audit DIR {message_id}",
            "back": (f"/messages/{message_id}", f"Message {message_id}"),
            "good": "Everything holds.",
            "bad": "Something does not hold; it is told below.",
        }

    return by_id, message, audit


def _for_member(visit: Visit, did: str, message_id: int) -> str:
    """A text for the member who asks, of what it may see itself; "" where it is no member's."""
    if did == NOBODY:
        return ""
    message = detail_of(visit.store, did, message_id, None)
    lines = [f"Message {message_id} to {message.recipient or '(removed)'}: {sentence(message)}"]
    for step in steps(message):
        lines.append(f"{exact(step.time_us)}  {step.what}")
        if step.entry.reply is not None and quoted(step.entry.reply):
            lines.append(f"    {quoted(step.entry.reply)}")
    to_do = what_to_do(message)
    return "\n".join([*lines, *([f"What to do: {to_do}"] if to_do else [])])


def _id_in(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise Refusal("NOT_FOUND", "There is no such message: its number is digits alone.")
    return int(text)
