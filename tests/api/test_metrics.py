"""`/metrics`: what an operator alarms on, right also after a restart, and nobody's name in it."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.world.relay import DID, DOMAIN, World, open_world, run


async def scrape(world: World) -> dict[str, float]:
    """Each sample by its name and labels, as in `atmos_messages{status=sent}`."""
    answer = await world.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    text = (await answer.get_data()).decode()
    for secret in (DID, DOMAIN, "example.com"):
        assert secret not in text
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_what_happened_can_be_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            await world.until_final(await world.send())
            await world.until_final(await world.send(to="permfail@example.com"))
            waiting = await world.send(to="tempfail-9@example.com")
            await world.until(waiting, "deferred")
            assert (await world.post_send(to="nobody"))[0] == 400
            assert (await world.post_send(**{"from": "you@elsewhere.example"}))[0] == 403
            found = await scrape(world)
            assert found["atmos_sends_accepted_total"] == 3
            assert found["atmos_sends_refused_total{code=INVALID_REQUEST}"] == 1
            assert found["atmos_sends_refused_total{code=DOMAIN_MISMATCH}"] == 1
            assert found["atmos_messages{status=sent}"] == 1
            assert found["atmos_messages{status=bounced}"] == 1
            assert found["atmos_messages{status=deferred}"] == 1
            assert (
                found[
                    "atmos_attempt_outcomes_total{bounce_class=transient_failure,reply_class=4,status=deferred}"
                ]
                == 1
            )
            assert (
                found[
                    "atmos_attempt_outcomes_total{bounce_class=invalid_recipient,reply_class=5,status=bounced}"
                ]
                == 1
            )
            assert found["atmos_attempt_outcomes_total{bounce_class=none,reply_class=2,status=sent}"] == 1
            assert found["atmos_domains{status=active}"] == 1
            assert found["atmos_projector_lag_records"] == 0
            assert found["atmos_log_batch_records_count"] == found["atmos_log_batches_total"]
            assert found["atmos_log_sync_seconds_count"] == found["atmos_log_batches_total"]
            world.core.metrics.workers.update(edge=lambda: (2, 7, 5), courier=lambda: (1, 1, 0))
            found = await scrape(world)
            assert found["atmos_workers{role=edge}"] == 2
            assert found["atmos_workers_died_total{role=edge}"] == 5
            assert found["atmos_workers_died_total{role=courier}"] == 0
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            assert (await scrape(world))["atmos_domains{status=paused}"] == 1
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            assert (await scrape(world))["atmos_messages{status=sent}"] == 1

    run(main)
