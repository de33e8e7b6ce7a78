"""One request to an endpoint: signed by its secrets, sent to its URL, bounded in time and size.

Whom it talks to is `relay.internet.https`'s business: public addresses only, but for those that the operator allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from relay.core import Core
from relay.events import WebhookUrl
from relay.internet.https import FetchError, HttpAnswer, KeptConnection
from relay.views.webhooks import WebhookState
from relay.webhooks.connections import Connections
from relay.webhooks.endpoint import Answer, retry_after_seconds
from relay.webhooks.frames import Keys, Told, body_of, body_of_test, headers_of, headers_of_test
from relay.webhooks.secrets import ed25519_key, hmac_key

Headers = Sequence[tuple[str, str]]


class Asker:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self.connections = Connections(core.surroundings)

    async def bring(
        self, state: WebhookState, told: Sequence[Told], at_us: int, *, is_replay: bool
    ) -> Answer:
        """Over a connection that is kept. One request of a webhook at a time."""
        body = body_of(told, is_batch=state.batch > 1)
        headers = headers_of(
            state.webhook_id, told, body, at_us, self._keys(state, at_us), is_replay=is_replay
        )
        allows = partial(self._core.config.webhooks.allows, state.did)
        try:
            connection = await self.connections.take(state.webhook_id, self._url(state), allows)
            try:
                return self._answer(await connection.ask("POST", body=body, headers=headers))
            finally:
                await self.connections.give_back(state.webhook_id, connection)
        except FetchError as error:
            return Answer(None, error.why)

    async def test(self, state: WebhookState, at_us: int) -> Answer:
        """A `webhook.test`, over a connection of its own."""
        body = body_of_test(state.webhook_id, at_us)
        headers = headers_of_test(state.webhook_id, body, at_us, self._keys(state, at_us))
        allows = partial(self._core.config.webhooks.allows, state.did)
        connection: KeptConnection | None = None
        try:
            connection = self.connections.new(self._url(state), allows)
            return self._answer(await connection.ask("POST", body=body, headers=headers))
        except FetchError as error:
            return Answer(None, error.why)
        finally:
            if connection is not None:
                await connection.aclose()

    def _url(self, state: WebhookState) -> str:
        personal = self._store.get(state.url_seq).event.personal
        if personal is None:
            raise FetchError("the URL was removed", "url")
        assert isinstance(personal, WebhookUrl)
        return personal.url

    def _keys(self, state: WebhookState, at_us: int) -> Keys:
        secrets = [(self._core.pepper.numbered(one.pepper), one.version) for one in state.secrets_at(at_us)]
        return Keys(
            [hmac_key(pepper, state.webhook_id, version) for pepper, version in secrets],
            [ed25519_key(pepper, state.webhook_id, version) for pepper, version in secrets if state.ed25519],
        )

    def _answer(self, answer: HttpAnswer) -> Answer:
        return Answer(answer.status, None, retry_after_seconds(answer.headers, self._store.now_us()))
