"""Bugs that are planted in what members order about mail that waits, and in what their webhooks are told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec

import relay.own_messages
from relay.events import WebhookEvent, WebhookProgressed
from relay.webhooks.endpoint import Answer, Brought, Endpoint, Wanted
from tests.campaigns.planting import _replace


def cancelled_mail_sent(stack: ExitStack) -> None:
    """Who cancels does not ask whether the message is in somebody's hand, who is about to send it."""

    def cancelled_at_once(states: Any, principal: Any, in_hand: Any, get: Any) -> Any:
        return cancelled(states, principal, (), get)

    cancelled = _replace(stack, relay.own_messages, "cancelled_by_member", cancelled_at_once)


def event_skipped_after_a_restart(stack: ExitStack) -> None:
    """What is written down is where the last request ended, whether or not it was taken."""

    def progress_of_the_request(endpoint: Endpoint) -> WebhookProgressed:
        found: WebhookProgressed = progress(endpoint)
        return msgspec.structs.replace(found, until_seq=max(found.until_seq, endpoint._end or 0))

    progress = _replace(stack, Endpoint, "progress", progress_of_the_request)


def order_lost_on_retry(stack: ExitStack) -> None:
    """Nobody waits for an event that failed: the next one is told, and then it comes again."""
    passed: dict[Endpoint, int] = {}

    def failed_and_on(
        endpoint: Endpoint, wanted: Wanted, brought: Brought, answer: Answer, *more: Any
    ) -> Sequence[WebhookEvent]:
        events: Sequence[WebhookEvent] = failed(endpoint, wanted, brought, answer, *more)
        if not events and endpoint.is_active and not wanted.is_replay and endpoint not in passed:
            passed[endpoint] = wanted.after
            endpoint.cursor, endpoint.next_at, endpoint._end = brought.last_seq, 0, None
        return events

    def taken_and_back(endpoint: Endpoint, wanted: Wanted, brought: Brought) -> Sequence[WebhookEvent]:
        events: Sequence[WebhookEvent] = taken(endpoint, wanted, brought)
        if endpoint in passed and not wanted.is_replay:
            endpoint.cursor = passed.pop(endpoint)
        return events

    failed = _replace(stack, Endpoint, "failed", failed_and_on)
    taken = _replace(stack, Endpoint, "taken", taken_and_back)
