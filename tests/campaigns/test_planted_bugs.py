"""A campaign that finds nothing proves nothing, unless it finds what is there: bugs, planted one at a time.

Each is what a careful person might write on a bad day, put into the running code; each must be caught by the same
simulation and the same checkers that find the real relay without fault, under kinds of trouble that bring it out, and
in the words of the judge that is meant to find it: a plant that no longer fits, and makes the relay fail, is none.
The first seed tried is one that has caught it, to be quick (others follow, because a seed's world changes with the
relay); `python -m tests.campaigns.test_planted_bugs 100 [NAME]` shows how many seeds of a hundred do.

Unsalted checksums are not here: a member who forges a record has to know where his mail will stand in the log, which is
no work for dice. `tests/spool/test_bytes.py` plants that bug, and forges.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.campaigns.bugs_of_rich_sends import (
    cancelled_mail_sent,
    event_skipped_after_a_restart,
    order_lost_on_retry,
)
from tests.campaigns.bugs_of_the_log import (
    acknowledged_before_the_sync,
    answered_before_the_views_have_it,
    backup_put_in_place_before_its_manifest,
    backup_that_keeps_what_is_sealed,
    backup_whose_manifest_is_not_durable,
    batch_split_in_two,
    content_that_stays,
    hold_that_is_lost_on_restart,
    index_that_is_not_corrected,
    jitter_that_is_not_in_the_event,
    mail_that_stays,
    no_sync_of_the_directory,
    notification_forgotten_by_retention,
    payloads_gone_before_their_event,
    payloads_of_mail_that_waits,
    projector_that_reads_a_clock,
    recovered_tail_not_written_again,
    stream_with_a_gap,
    stripped_segment_not_renamed_for_good,
    sync_tried_again,
    time_that_goes_back,
)
from tests.campaigns.bugs_of_the_mail import (
    bounce_counted_by_each_report,
    bytes_that_change,
    call_of_a_private_address,
    call_that_is_made_once,
    calls_that_a_restart_forgets,
    days_counted_from_the_start,
    dns_that_does_not_tell_is_taken_for_wrong,
    grace_of_a_check,
    grace_that_begins_again,
    idempotency_key_in_memory_only,
    idempotency_key_not_in_turn,
    interrupted_attempts_not_named,
    limit_without_reservation,
    mail_passed_on_again,
    orders_about_what_is_being_tried,
    outcome_recorded_before_the_dot,
    pause_not_looked_at_by_the_deliverer,
    report_recorded_again,
    reservation_that_is_kept,
    retries_forgotten,
    send_from_a_domain_that_is_not_verified,
    start_recorded_after_the_dot,
    stream_before_the_sync,
    stream_of_another_member,
    stream_that_repeats_after_a_reconnect,
    stream_that_skips_after_a_reconnect,
    suppression_not_looked_at_again,
)
from tests.campaigns.story import Run, simulate

Plant = Callable[[ExitStack], None]


# ------------------------------------------------------------------------------------------------ the log


# ------------------------------------------------------------------------------------------------ the views


# ------------------------------------------------------------------------------------------------ sending


# ------------------------------------------------------------------------------------------------ delivery


# ------------------------------------------------------------------------------------------------ the stream


# ------------------------------------------------------------------------------------------------ retention


# ------------------------------------------------------------------------------------------------ verification


# ------------------------------------------------------------------------------------------------ members' own URLs


# ------------------------------------------------------------------------------------------------ backups


class Bug(NamedTuple):
    plant: Plant
    #: Kinds of trouble that bring it out.
    faults: tuple[str, ...]
    #: What the judge that is meant to find it says, a regular expression. A bug that makes another judge speak, or the
    #: relay fail, is not caught.
    words: str
    #: A seed that does.
    seed: int


OTHER_SEEDS = 20
CROWD = ("crowd", "slow-disk")
#: The relay's own start, or the journal of what was shown before.
WITNESS = "a later batch proves it had been durable|events had been acknowledged; after a restart there are"
KEY = "its Idempotency-Key stands for another send"
OUT_OF_ORDER = r"^\S+ was told \[[\d, ]+\] at \d+ s, life \d+: \[[\d, ]+\] should have come before"
HEARD = "did not hear exactly its events"
TOO_EARLY = r"is erased, and \d+ is not final"
STAYED = r"^the payload of \d+ is there, and log\.stripped says that it is not"
BUGS = (
    Bug(acknowledged_before_the_sync, ("power",), WITNESS, 1),
    Bug(sync_tried_again, ("failing-disk", "power"), WITNESS + "|is not the event that it was", 1),
    Bug(no_sync_of_the_directory, ("power",), WITNESS, 3),
    Bug(
        batch_split_in_two,
        ("kill", "crowd"),
        r"a crash could part it from its send|AssertionError\(\) in sends\.__init__$",
        1,
    ),
    Bug(recovered_tail_not_written_again, ("kill", "power", "failing-disk"), WITNESS, 2),
    Bug(time_that_goes_back, ("clock",), "its time is before the time of the record in front of it", 3),
    Bug(projector_that_reads_a_clock, (), "the view warming_sends is no fold", 1),
    Bug(jitter_that_is_not_in_the_event, ("moods", "stop"), "the view due is no fold", 1),
    Bug(answered_before_the_views_have_it, (), "was acknowledged and cannot be read", 1),
    Bug(
        hold_that_is_lost_on_restart,
        ("orders", "stop", "lost-views", "receivers"),
        "the view held is no fold|it is held",
        1,
    ),
    Bug(stream_with_a_gap, (), "was not shown exactly its events", 1),
    Bug(limit_without_reservation, (*CROWD, "limits"), "recipients within a (hour|day), where", 6),
    Bug(
        reservation_that_is_kept,
        ("crowd", "limits", "keys"),
        "refused for a limit that it would not have passed",
        4,
    ),
    Bug(idempotency_key_in_memory_only, ("keys", "stop", "kill"), KEY, 2),
    Bug(idempotency_key_not_in_turn, ("keys", *CROWD), KEY, 1),
    Bug(outcome_recorded_before_the_dot, ("moods",), "its outcome was in the log before", 1),
    Bug(start_recorded_after_the_dot, ("slow-disk",), "handed over before its attempt was durable", 1),
    Bug(interrupted_attempts_not_named, ("kill", "moods"), "has no outcome", 1),
    Bug(
        suppression_not_looked_at_again,
        ("suppressions", "moods", "receivers", "dns"),
        r"attempt\.started .*its recipient is suppressed",
        2,
    ),
    Bug(
        pause_not_looked_at_by_the_deliverer,
        ("pauses", "moods", "receivers", "crowd"),
        r"attempt\.started .* is paused",
        5,
    ),
    Bug(
        orders_about_what_is_being_tried,
        ("orders", "receivers", "moods"),
        "which is not under way|it had been (sent|bounced) already",
        1,
    ),
    Bug(bytes_that_change, ("moods",), "bytes that no attempt sent|it sent other bytes", 1),
    Bug(retries_forgotten, ("moods", "receivers"), r"^message \d+ is not final", 2),
    Bug(backup_whose_manifest_is_not_durable, ("backups",), "the backup cannot be restored", 1),
    Bug(
        backup_put_in_place_before_its_manifest,
        ("backups", "kill", "power"),
        "the backup cannot be restored",
        3,
    ),
    Bug(
        backup_that_keeps_what_is_sealed,
        ("backups", "erasures"),
        "a backup of .* is there, and log.stripped says that it is not",
        1,
    ),
    Bug(stream_that_skips_after_a_reconnect, ("streams",), HEARD, 3),
    Bug(stream_that_repeats_after_a_reconnect, ("streams",), HEARD, 1),
    Bug(stream_of_another_member, ("streams",), HEARD, 1),
    Bug(stream_before_the_sync, ("streams", "slow-disk", "kill", "power"), HEARD, 2),
    Bug(
        payloads_gone_before_their_event, ("erasures", "kill"), "is gone, and no payload.erased admits it", 2
    ),
    Bug(payloads_of_mail_that_waits, ("erasures", "moods", "receivers"), TOO_EARLY, 2),
    Bug(
        notification_forgotten_by_retention,
        ("erasures", "moods", "receivers", "notifications", "crowd"),
        TOO_EARLY,
        2,
    ),
    Bug(stripped_segment_not_renamed_for_good, ("erasures", "power"), STAYED, 1),
    Bug(content_that_stays, ("erasures",), STAYED, 1),
    Bug(
        send_from_a_domain_that_is_not_verified,
        ("verification",),
        r"send\.accepted: the domain \S+ is not verified",
        2,
    ),
    Bug(dns_that_does_not_tell_is_taken_for_wrong, ("verification",), "was not seen wrong", 1),
    Bug(grace_that_begins_again, ("verification",), "is over, and it may go on", 2),
    Bug(grace_of_a_check, ("verification",), "had no grace", 1),
    Bug(days_counted_from_the_start, ("verification", "stop"), "should have been looked at again", 1),
    Bug(call_that_is_made_once, ("calls",), "it was given up before its time", 1),
    Bug(calls_that_a_restart_forgets, ("calls", "stop"), r"the call for \d+ never ended", 1),
    Bug(call_of_a_private_address, ("calls",), "it is private, and was connected to", 1),
    Bug(report_recorded_again, ("reports",), "the same mail is recorded already", 1),
    Bug(bounce_counted_by_each_report, ("reports",), "it is the second that counts", 1),
    Bug(mail_passed_on_again, ("reports",), "the same mail was passed on within five days", 1),
    Bug(mail_that_stays, ("reports", "erasures"), STAYED, 1),
    Bug(
        cancelled_mail_sent,
        ("schedules", "slow-disk", "moods", "receivers"),
        "cancelled by its member, and received",
        3,
    ),
    Bug(event_skipped_after_a_restart, ("webhooks", "stop", "kill"), OUT_OF_ORDER, 1),
    Bug(order_lost_on_retry, ("webhooks",), OUT_OF_ORDER, 1),
    Bug(
        index_that_is_not_corrected,
        ("erasures", "old-views", "lost-views", "stop", "kill"),
        "the view index is no fold",
        3,
    ),
)


def simulate_with(bug: Bug, seed: int) -> Run:
    with ExitStack() as stack:
        bug.plant(stack)
        return simulate(seed, faults=bug.faults)


def is_caught(bug: Bug, seed: int) -> bool:
    """By the judge that is meant to."""
    return any(re.search(bug.words, breach) for breach in simulate_with(bug, seed).breaches)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_it_is_caught(bug: Bug) -> None:
    assert simulate(bug.seed, faults=bug.faults).breaches == []
    assert any(is_caught(bug, seed) for seed in (bug.seed, *range(101, 101 + OTHER_SEEDS)))


def main() -> None:
    logging.disable(logging.CRITICAL)
    count, names = int(sys.argv[1]), sys.argv[2:]
    for bug in BUGS:
        if names and bug.plant.__name__ not in names:
            continue
        caught = [seed for seed in range(1, count + 1) if is_caught(bug, seed)]
        print(f"{bug.plant.__name__}: {len(caught)} of {count} seeds, the first are {caught[:3]}", flush=True)


if __name__ == "__main__":
    main()
