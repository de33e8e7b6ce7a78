"""What an operator alarms on, as Prometheus sees it (SPEC 1.3).

What the views know is read from them when it is asked for, so that it is right after a restart too; only what is no
part of the log (refusals, times of a process) is counted here. Labels are codes and statuses: never a member, a
domain or an address, of which there is no bound.

What an edge counts and what the core counts are two classes, for there may be several edges, in processes of their own.
Each is a registry of names; `relay.metrics_page` makes one page of them.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.codec import Recorded
from relay.events import (
    RELAY_CLASSES,
    AttemptStarted,
    MailReceived,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageQueued,
    MessageSent,
    Outcome,
    SendAccepted,
)
from relay.last_looks import ListLooks
from relay.metrics_page import Family, families_of
from relay.providers import UNKNOWN
from relay.store import Store
from relay.times import DAY_US, utc
from relay.views import due, listings, members, messages, provider_reports
from spool.views import Snapshot

#: What a provider said so long ago says nothing of now.
SPAM_RATE_DAYS = 14


class SmtpMetrics:
    """Of the ports of one role (`relay.reception.role`)."""

    def __init__(self, registry: CollectorRegistry, role: str, clients: str) -> None:
        #: Asked of `relay.reception.places`.
        self.connections = Gauge(
            f"atmos_{role}_connections_open", f"Open SMTP connections of {clients}", registry=registry
        )
        self.turned_away = Counter(
            f"atmos_{role}_turned_away",
            f"SMTP connections of {clients} that were not let in, or ended for another, by why",
            ["why"],
            registry=registry,
        )
        self.replies = Counter(
            f"atmos_{role}_replies",
            f"Answers to {clients} over SMTP, by command (DATA: to a whole message) and first digit",
            ["command", "reply_class"],
            registry=registry,
        )


class EdgeMetrics:
    """What whoever answers requests counts: one registry for each edge."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.refused = Counter(
            "atmos_sends_refused", "Sends refused, by code", ["code"], registry=self._registry
        )
        #: Asked of `relay.streams`.
        self.streams = Gauge("atmos_streams_open", "Open status streams", registry=self._registry)
        #: Asked of `relay.api.places`.
        self.http_connections = Gauge(
            "atmos_http_connections_open",
            "Open HTTP connections, of which there may be connections_max; status streams are none of them",
            registry=self._registry,
        )
        self.http_turned_away = Counter(
            "atmos_http_turned_away",
            "Connections ended, and requests refused, before anybody looked at what was wanted, by why",
            ["why"],
            registry=self._registry,
        )
        self.submission = SmtpMetrics(self._registry, "submission", "members")
        self.inbound = SmtpMetrics(self._registry, "inbound", "strangers")
        self.inbound_recipients_refused = Counter(
            "atmos_inbound_recipients_refused",
            "Recipients that strangers asked for and were refused, by why",
            ["why"],
            registry=self._registry,
        )
        self.inbound_refused = Counter(
            "atmos_inbound_refused",
            "Whole messages of strangers that were refused, by why",
            ["why"],
            registry=self._registry,
        )
        #: Asked of `relay.reception.certificates`; 0: there is none.
        self.certificate_expires = Gauge(
            "atmos_tls_certificate_expires_seconds",
            "When the certificate that is shown expires, in seconds since 1970",
            registry=self._registry,
        )
        #: By why, how often who reads the mail that comes in gave no answer. Set by who makes the reader.
        self.reader_failures: Callable[[], Iterable[tuple[str, int]]] = tuple
        self._registry.register(_ReaderCollector(lambda: self.reader_failures()))

    def families(self) -> list[Family]:
        return families_of(self._registry)


class CoreMetrics:
    """What the core counts, and reads from its views; `observe` must be one of the views' observers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._registry = CollectorRegistry()
        self._registry.register(_ViewsCollector(store))
        self._accepted = Counter("atmos_sends_accepted", "Sends accepted", registry=self._registry)
        self._recipients = Counter(
            "atmos_recipients_accepted", "Recipients accepted", registry=self._registry
        )
        self._attempts = Counter("atmos_attempts_started", "Attempts begun", registry=self._registry)
        self._outcomes = Counter(
            "atmos_attempt_outcomes",
            "Attempts ended, by status, first digit of the reply (0: no reply) and why (docs/BOUNCE_CLASSES.md)",
            ["status", "reply_class", "bounce_class"],
            registry=self._registry,
        )
        self._relay_refused = Counter(
            "atmos_relay_refused",
            "Bounces that tell of the relay's own address and pause no domain, by class; alarm on any",
            ["bounce_class"],
            registry=self._registry,
        )
        self._provider_outcomes = Counter(
            "atmos_provider_outcomes",
            "Attempts ended, by whose receivers it was (docs/PROVIDERS.md), status and why (docs/BOUNCE_CLASSES.md)",
            ["provider", "status", "bounce_class"],
            registry=self._registry,
        )
        self._provider_tls = Counter(
            "atmos_provider_sent_over_tls",
            "Of the messages sent, those that went over TLS, by provider",
            ["provider"],
            registry=self._registry,
        )
        self._provider_complaints = Counter(
            "atmos_provider_complaints",
            "Complaints that are believed, by the provider whose user complained",
            ["provider"],
            registry=self._registry,
        )
        #: Set by the deliverer, who has them.
        self.connections = Gauge(
            "atmos_delivery_connections", "Open connections to receivers", registry=self._registry
        )
        self._reports = Counter(
            "atmos_inbound_reports",
            "Reports about messages that came in by mail and were recorded, by kind",
            ["kind"],
            registry=self._registry,
        )
        self._complaints = Counter(
            "atmos_complaints",
            "Complaints recorded, by whether they are believed (an operator's word, or a signed report)",
            ["authenticated"],
            registry=self._registry,
        )
        self._passed_on = Counter(
            "atmos_inbound_passed_on",
            "Mails that came in and are passed on, by kind",
            ["kind"],
            registry=self._registry,
        )
        self._sync_seconds = Histogram(
            "atmos_log_sync_seconds",
            "How long a batch's fdatasync took",
            buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
            registry=self._registry,
        )
        self._batch_records = Histogram(
            "atmos_log_batch_records",
            "How many records a batch had",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self._registry,
        )
        self._unanswered = Counter(
            "atmos_metrics_unanswered",
            "How often a process of the relay did not say its numbers in time; that page has its counters of before",
            registry=self._registry,
        )

        self.webhook_requests = Counter(
            "atmos_webhook_requests",
            "Requests to webhooks' endpoints, by outcome: taken (2xx), refused (4xx for good), failed, unanswered",
            ["outcome"],
            registry=self._registry,
        )
        self._webhooks_behind = Gauge(
            "atmos_webhooks_behind_seconds",
            "How long ago the oldest event became true that an active webhook was not told of yet",
            registry=self._registry,
        )

        #: By role of workers: how many are ready, how many were ever begun, and how many of those have died. Set by who
        #: keeps them.
        self.workers: dict[str, Callable[[], tuple[int, int, int]]] = {}
        self._registry.register(_WorkersCollector(self.workers))

    def webhooks_are(self, by_status: Mapping[str, int], behind_seconds: Callable[[], float]) -> None:
        """Called by who tells events to them."""
        self._webhooks_behind.set_function(behind_seconds)
        self._registry.register(_WebhooksCollector(by_status))

    def alarms_are(self, counts: Callable[[], Mapping[str, int]], looks: ListLooks) -> None:
        """Called by who knows them."""
        self._registry.register(_AlarmsCollector(counts))
        self._registry.register(_ListsCollector(self._store, looks))

    def node_is(self, leads: Callable[[], bool], lag_seconds: Callable[[], float]) -> Counter:
        """Called where the relay runs on several nodes. What is returned counts what this one has asked the one that
        leads."""
        Gauge("atmos_node_leads", "1: this node leads", registry=self._registry).set_function(
            lambda: float(leads())
        )
        Gauge(
            "atmos_node_lag_seconds",
            "So long this node is not known to have had all that the node that leads had acknowledged",
            registry=self._registry,
        ).set_function(lag_seconds)
        return Counter(
            "atmos_node_questions",
            "What this node asked the one that leads: answered; not_asked: nobody could be asked, nothing was done; "
            "lost: there was no answer, and it may have been done",
            ["result"],
            registry=self._registry,
        )

    def database_is(self, octets: Callable[[], int | None], doubts: Callable[[], int]) -> None:
        """Called where the relay runs on several nodes. None: not known here."""
        Gauge(
            "atmos_node_database_bytes",
            "What the tables that the nodes agree in need in the database; 0 where this node does not lead, or has not "
            "looked yet",
            registry=self._registry,
        ).set_function(lambda: float(octets() or 0))
        Gauge(
            "atmos_node_database_doubts",
            "How many things are doubtful about the servers of the database; 0 where this node does not lead, or has "
            "not looked yet",
            registry=self._registry,
        ).set_function(lambda: float(doubts()))

    def count_unanswered(self, processes: int) -> None:
        self._unanswered.inc(processes)

    def families(self) -> list[Family]:
        return families_of(self._registry)

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called once a batch, right after it became durable."""
        self._sync_seconds.observe(self._store.sync_seconds_last)
        self._batch_records.observe(len(recorded))
        for _, _, event in recorded:
            match event:
                case MessageQueued():
                    pass  # before the others: most events are, and none of these counts
                case SendAccepted():
                    self._accepted.inc()
                    self._recipients.inc(event.wanted)
                case AttemptStarted():
                    self._attempts.inc()
                case Outcome() if event.attempt:
                    digit, bounce_class = (event.code or 0) // 100, event.bounce_class or "none"
                    self._outcomes.labels(_status(event), str(digit), bounce_class).inc()
                    self._count_provider(event, bounce_class)
                    if isinstance(event, MessageBounced) and event.bounce_class in RELAY_CLASSES:
                        self._relay_refused.labels(event.bounce_class).inc()
                case MessageBounceReported():
                    self._reports.labels(event.kind).inc()
                    if event.counts and event.bounce_class in RELAY_CLASSES:
                        self._relay_refused.labels(event.bounce_class).inc()
                case MessageComplained():
                    self._complaints.labels("yes" if event.authenticated else "no").inc()
                    if event.authenticated:
                        self._provider_complaints.labels(self._provider_of(event.message_id)).inc()
                case MailReceived():
                    self._passed_on.labels(event.kind).inc()
                case _:
                    pass

    def _count_provider(self, event: Outcome, bounce_class: str) -> None:
        provider = event.provider or UNKNOWN
        self._provider_outcomes.labels(provider, _status(event), bounce_class).inc()
        if isinstance(event, MessageSent) and event.tls_version is not None:
            self._provider_tls.labels(provider).inc()

    def _provider_of(self, message_id: int) -> str:
        """Of a message that has come to its end. Complaints are few."""
        with self._store.read() as view:
            state = messages.message(view, message_id)
        return (state and state.provider) or UNKNOWN


def _status(event: Outcome) -> str:
    match event:
        case MessageSent():
            return "sent"
        case MessageDeferred():
            return "deferred"
        case MessageBounced():
            return "bounced"
    raise AssertionError(event.TYPE)


class _AlarmsCollector(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "atmos_alarms", "Alarms that are active, by name (docs/OPERATING.md)", labels=["name"]
        )
        for name, count in self._counts().items():
            family.add_metric([name], count)
        yield family


class _ListsCollector(Collector):
    """By list, of which the configuration names some; by state, so that `unknown` is never taken for good news."""

    def __init__(self, store: Store, looks: ListLooks) -> None:
        self._store = store
        self._looks = looks

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "atmos_dnsbl_sources",
            "The relay's addresses and domains, by list of senders to refuse and what it says: listed, or unknown",
            labels=["dnsbl", "state"],
        )
        with self._store.read() as view:
            listed = Counts(listing.dnsbl for listing in listings.listings(view))
        unknown = Counts(dnsbl for _, dnsbl in self._looks.unknown())
        for dnsbl in sorted({*listed, *self._looks.lists()}):
            family.add_metric([dnsbl, "listed"], listed[dnsbl])
            family.add_metric([dnsbl, "unknown"], unknown[dnsbl])
        yield family


class _WebhooksCollector(Collector):
    def __init__(self, by_status: Mapping[str, int]) -> None:
        self._by_status = by_status

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("atmos_webhooks", "Webhooks, by status", labels=["status"])
        for status in ("active", "paused", "disabled"):
            family.add_metric([status], self._by_status.get(status, 0))
        yield family


class _ReaderCollector(Collector):
    def __init__(self, failures: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "atmos_mail_reader_failures",
            "Mails that could not be read, by why: the process that reads was late, ended, or was not to be had",
            labels=["why"],
        )
        for why, count in sorted(self._failures()):
            family.add_metric([why], count)
        yield family


class _WorkersCollector(Collector):
    def __init__(self, workers: Mapping[str, Callable[[], tuple[int, int, int]]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "atmos_workers", "Processes beside the core that are ready, by role", labels=["role"]
        )
        died = CounterMetricFamily(
            "atmos_workers_died",
            "Processes beside the core that ended otherwise than in order",
            labels=["role"],
        )
        for role, statistics in self._workers.items():
            ready_now, _, died_ever = statistics()
            ready.add_metric([role], ready_now)
            died.add_metric([role], died_ever)
        yield ready
        yield died


class _ViewsCollector(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        log = self._store.statistics()
        with self._store.read() as view:
            by_status = GaugeMetricFamily("atmos_messages", "Messages, by status", labels=["status"])
            for status, count in messages.status_counts(view).items():
                by_status.add_metric([status], count)
            yield by_status
            oldest = due.earliest(view)
            overdue = 0.0 if oldest is None else max(0.0, (self._store.now_us() - oldest) / 1e6)
            yield GaugeMetricFamily(
                "atmos_queue_overdue_seconds", "How long the most overdue message has waited", value=overdue
            )
            yield GaugeMetricFamily("atmos_messages_held", "Messages held", value=due.held_count(view))
            paused = GaugeMetricFamily("atmos_domains", "Sending domains, by status", labels=["status"])
            for status, count in _domain_counts(view).items():
                paused.add_metric([status], count)
            yield paused
            yield _spam_rates(view, self._store.now_us())
            lag = self._store.last_seq - view.position
        yield GaugeMetricFamily(
            "atmos_projector_lag_records", "Records that the views have not seen", value=lag
        )
        yield CounterMetricFamily("atmos_log_batches", "Batches written", value=log.batches)
        yield CounterMetricFamily("atmos_log_records", "Records written", value=log.records)
        yield CounterMetricFamily("atmos_log_bytes", "Bytes written to the log", value=log.bytes)
        yield GaugeMetricFamily("atmos_log_queue", "Appends that wait for the writer", value=log.queue_length)
        yield GaugeMetricFamily(
            "atmos_log_poisoned", "1 when nothing is accepted any more", value=log.poisoned
        )
        yield GaugeMetricFamily(
            "atmos_disk_free_bytes", "Free space where the log is", value=self._store.free_bytes()
        )


def _spam_rates(view: Snapshot, now_us: int) -> Metric:
    """What providers said of the last day that was recorded, the worst of its domains; none older than a fortnight."""
    family = GaugeMetricFamily(
        "atmos_provider_spam_rate",
        "Share of mail that users reported as spam, as the provider has it: the last day recorded, its worst domain",
        labels=["provider"],
    )
    last: dict[str, tuple[str, float]] = {}
    since, until = (f"{utc(now_us + days * DAY_US):%Y-%m-%d}" for days in (-SPAM_RATE_DAYS, 1))
    for report in provider_reports.reports(view, since, until):
        if report.spam_rate is not None:
            last[report.provider] = max(last.get(report.provider, ("", 0.0)), (report.date, report.spam_rate))
    for provider, (_, rate) in sorted(last.items()):
        family.add_metric([provider], rate)
    return family


def _domain_counts(view: Snapshot) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in members.domains(view):
        counts[state.status] = counts.get(state.status, 0) + 1
    return counts
