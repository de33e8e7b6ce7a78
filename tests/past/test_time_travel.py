"""The views as they were: `log replay`, `log diff` and `?asOf=` say what was true then, at every sequence number.

What they must say is never computed by them: it is the fold of the first records, or what the relay answered when it
was at that record.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded
from relay.events import (
    AttemptStarted,
    MessageQueued,
    MessageSent,
)
from relay.past.rows import VIEWS, Change, Moment, differences
from relay.presentation import message_detail
from relay.times import rfc3339
from relay.views import messages
from spool import LogReader
from tests.world.directories import contents
from tests.world.histories import histories, repeatable
from tests.world.history_views import History, opened, records_of
from tests.world.relay import DID, OTHER_DID, open_world, run
from tests.world.time_travels import all_views, answer, write_log

#: Each of their examples folds a log for every one of its records.
repeatable_and_very_few = settings(repeatable, max_examples=8)


@contextmanager
def log_of(history: History) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield write_log(Path(name), history)


def rows_of(moment: Moment) -> dict[str, list[Any]]:
    return {
        name: json.loads(json.dumps([row for _, row in view.rows(moment)])) for name, view in VIEWS.items()
    }


# ------------------------------------------------------------------------------------------------ properties


@repeatable_and_very_few
@given(histories())
def test_replay_until_any_record_is_the_fold_of_the_first_records(history: History) -> None:
    with log_of(history) as directory, tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        for record in LogReader(directory / "log").read(1):
            views.apply([record])
            found = answer("replay", directory, "--until", record.seq, *all_views())
            assert found.pop("seq") == record.seq
            found.pop("time")
            with views.read() as view:
                assert found == rows_of(Moment(record.seq, record.time_us, view))
            # The same by its time.
            assert seq_at_time(directory, record.time_us) == record.seq


def seq_at_time(directory: Path, time_us: int) -> int:
    seq: int = answer("replay", directory, "--until", rfc3339(time_us), "--view", "members")["seq"]
    return seq


@repeatable_and_very_few
@given(histories(), st.data())
def test_a_difference_turns_what_was_into_what_is(history: History, data: st.DataObject) -> None:
    begin = data.draw(st.integers(1, len(history)))
    end = data.draw(st.integers(begin, len(history)))
    with log_of(history) as directory:
        before, after = (answer("replay", directory, "--until", seq, *all_views()) for seq in (begin, end))
        found = answer("diff", directory, begin, end)
        assert (found.pop("from"), found.pop("to")) == (begin, end)
        assert list(found) == list(VIEWS)
        for name, changes in found.items():
            assert applied(name, before[name], changes) == after[name]
            # Nothing that is the same is named.
            assert all(change["before"] != change["after"] for change in changes)


def applied(name: str, rows: list[Any], changes: list[Any]) -> list[Any]:
    def identity(row: Any) -> tuple[Any, ...]:
        return tuple(row[field] for field in VIEWS[name].identity)

    found = {identity(row): row for row in rows}
    for change in changes:
        match change["what"]:
            case "added":
                assert found.setdefault(identity(change["after"]), change["after"]) is change["after"]
            case "removed":
                assert found.pop(identity(change["before"])) == change["before"]
            case "changed":
                assert found[identity(change["before"])] == change["before"]
                found[identity(change["after"])] = change["after"]
    if name == "suppressions":  # their order is that of a digest
        order = [identity(row) for row in rows_sorted_as_the_table(found)]
        return [found[one] for one in order]
    return [found[one] for one in sorted(found)]


def rows_sorted_as_the_table(found: dict[tuple[Any, ...], Any]) -> list[Any]:
    return sorted(
        found.values(),
        key=lambda row: (row["did"], sha256(row["recipient"].lower().encode()).digest()),
    )


@repeatable
@given(histories())
def test_the_state_after_any_part_of_a_timeline_is_that_of_the_view_then(history: History) -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        recorded: list[Recorded] = []
        for seq, record in enumerate(records_of(history), 1):
            views.apply([record])
            recorded.append(Recorded(seq, record.time_us, history[seq - 1]))
            with views.read() as view:
                for state in messages.all_messages(view):
                    story = [recorded[at - 1] for at in messages.timeline(view, state.message_id)]
                    assert messages.state_after(story) == state


def test_nothing_changes_what_is_final() -> None:
    queued = MessageQueued(
        did=DID, domain="a.example", category="bulk", index=1, next_attempt_at=1, give_up_at=2
    )
    sent = MessageSent(did=DID, message_id=2, attempt=1)
    again = AttemptStarted(did=DID, message_id=2, attempt=2, next_attempt_at=9)
    story = [Recorded(seq, seq, event) for seq, event in enumerate([queued, sent, again], 2)]
    assert messages.state_after(story) == messages.state_after(story[:2])


def test_differences_of_lists_that_end_apart() -> None:
    def rows(**of: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
        return iter([(key.encode(), {"is": value}) for key, value in of.items()])

    assert list(differences(rows(), rows())) == []
    assert list(differences(rows(a=1, b=2, d=4), rows(b=3, c=1))) == [
        Change("removed", {"is": 1}, None),
        Change("changed", {"is": 2}, {"is": 3}),
        Change("added", None, {"is": 1}),
        Change("removed", {"is": 4}, None),
    ]
    assert list(differences(rows(), rows(z=1))) == [Change("added", None, {"is": 1})]


# ------------------------------------------------------------------------------------------------ a whole relay


def test_as_of_any_event_the_api_answers_what_it_answered_then(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            store = world.core.store
            #: (sequence number, message id) -> what the relay said when it was there.
            answers: dict[tuple[int, int], Any] = {}

            def observe(events: Sequence[Recorded]) -> None:
                with store.read() as view:
                    for state in messages.all_messages(view):
                        timeline = messages.timeline(view, state.message_id)
                        said = message_detail(state, timeline, store.get)
                        answers[view.position, state.message_id] = said

            store.observers.append(observe)
            first = await world.send(to="tempfail-2@example.com")
            await world.until(first, "deferred")
            await world.command("queue_hold", by="root", message=[first], reason="asked for")
            second = await world.send(to="permfail@example.com", category="transactional")
            await world.until_final(second)
            await world.command("queue_release", by="root", message=[first], reason="it may go")
            await world.until_final(first)
            await world.command("complaint_record", message=first)
            other = await world.enrol(OTHER_DID, "other.example")
            assert len(answers) > 20
            for (seq, message_id), said in answers.items():
                status, now, _ = await world.request("GET", f"/v1/messages/{message_id}?asOf={seq}")
                assert status == 200
                assert now == msgspec.to_builtins(said)
            # A time is the last event of until then.
            for (seq, message_id), said in answers.items():
                time_us = store.get(seq).time_us
                if seq < store.last_seq and store.get(seq + 1).time_us > time_us:
                    for moment in (time_us, store.get(seq + 1).time_us - 1):
                        path = f"/v1/messages/{message_id}?asOf={rfc3339(moment)}"
                        status, now, _ = await world.request("GET", path)
                        assert (status, now) == (200, msgspec.to_builtins(said))
            last = store.last_seq
            assert (await world.request("GET", f"/v1/messages/{first}?asOf={last}"))[
                1
            ] == await world.message(first)
            for path, expected, code in (
                (f"{second}?asOf={second - 1}", 404, "NOT_FOUND"),
                (f"{first}?asOf={last + 1}", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=0", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=-1", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=2016-01-01T00:00:00Z", 404, "NOT_FOUND"),
                (f"{first}?asOf=2126-01-01T00:00:00Z", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=2026-01-01T00:00:00", 400, "INVALID_REQUEST"),
                (f"{first}?asOf=2026-01-01", 400, "INVALID_REQUEST"),
                (f"{first}?asOf={'9' * 400}", 400, "INVALID_REQUEST"),
                (f"999999?asOf={last}", 404, "NOT_FOUND"),
            ):
                status, answered, _ = await world.request("GET", f"/v1/messages/{path}")
                assert (status, answered["code"]) == (expected, code), path
            # Whose message it is, is asked first of all.
            status, answered, _ = await world.request(
                "GET", f"/v1/messages/{first}?asOf={first - 1}", headers=other
            )
            assert answered["error"] == "messageId: you have no message with this id"

    run(main)


def test_beside_a_running_relay_and_nothing_is_changed(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)
            before = contents(directory)
            found = answer("replay", directory)
            assert found["seq"] == world.core.store.last_seq
            (row,) = found["messages"]
            assert (row["messageId"], row["status"], row["did"]) == (message_id, "sent", DID)
            assert answer("replay", directory, "--until", message_id)["messages"][0]["status"] == "queued"
            changes = answer("diff", directory, message_id, found["seq"], "--view", "messages")["messages"]
            (change,) = changes
            assert (change["before"]["status"], change["after"]["status"]) == ("queued", "sent")
            assert contents(directory) == before

    run(main)
