"""The parts of `run_campaign` that only compute: the payload's checks, the pace, the first few."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crmd.crm.campaigns.jobs import run_campaign
from crmd.crm.campaigns.payloads import Canary, RunCampaign
from crmd.crm.campaigns.progress import (
    FIRST_AHEAD,
    LEAST_AHEAD,
    MOST_AHEAD,
    PROBE,
    Backpressure,
    CampaignProgress,
    SendProgress,
    times,
)
from crmd.crm.campaigns.sending import decide
from crmd.errors import InvalidPayload
from crmd.jobs import spec_of
from tests.support.campaigns import definition, inline

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TEMPLATE = {"name": "offer", "language": "en_US"}


def refusal(payload: dict[str, Any]) -> str:
    """Why a payload is refused when its job is added."""
    spec = spec_of(run_campaign)
    assert spec is not None
    with pytest.raises(InvalidPayload) as caught:
        spec.validate(payload)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": " "}, "name: must not be blank"),
        ({"name": "x" * 201}, "name: "),
        ({"extra": 1}, "extra: "),
        ({"audience": {}}, "audience: give exactly one of filter, file and recipients"),
        ({"audience": {"filter": {}, "file": "x"}}, "audience: give exactly one of filter, file and recipients"),
        ({"audience": {"filter": {"tag": "x"}}}, "audience.filter.tag: "),
        ({"audience": {"recipients": []}}, "audience.recipients: "),
        ({"audience": inline(1_001)}, "audience.recipients: "),
        ({"audience": {"recipients": [{"phone": ""}]}}, "audience.recipients.0.phone: must not be blank"),
        ({"content": {}}, "content: give exactly one of text and template"),
        ({"content": {"text": "x", "template": TEMPLATE}}, "content: give exactly one of text and template"),
        ({"content": {"text": "{{ name"}}, "content: text.body: line 1: unexpected end of template"),
        ({"content": {"text": "{{ name|safe }}"}}, "content: text.body: line 1: no filter safe"),
        ({"content": {"template": {**TEMPLATE, "name": "{{ x }}"}}}, "content.template.name: "),
        (
            {
                "content": {
                    "template": {
                        **TEMPLATE,
                        "components": [{"type": "body", "parameters": [{"type": "text", "text": "{% x %}"}]}],
                    }
                }
            },
            "content: template.components.0.parameters.0.text: line 1: Encountered unknown tag 'x'",
        ),
        ({"default_region": "XX"}, 'default_region: "XX" is not a country code such as "DE"'),
        ({"canary": {"count": 0, "max_failure_share": 0.1}}, "canary.count: "),
        ({"canary": {"count": 5, "max_failure_share": 1.0}}, "canary.max_failure_share: "),
        ({"canary": {"count": 5, "max_failure_share": 0.1, "wait": "600"}}, "canary.wait: 600 has no unit"),
        ({"canary": {"count": 5, "max_failure_share": 0.1, "wait": "8d"}}, "canary.wait: '8d' is not between"),
        ({"canary": {"count": 5, "max_failure_share": 0.1, "wait": "none"}}, "canary.wait: 'none' is not between"),
        ({"rate": "fast"}, 'rate: "fast" is not a rate'),
        ({"message_priority": 11}, "message_priority: "),
    ],
)
def test_what_is_wrong_with_a_campaign_is_said_when_it_is_added(changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal({**definition(inline(1)), **changes})


def test_a_definition_is_the_same_however_it_is_written() -> None:
    short = RunCampaign.model_validate(definition({"filter": {"tags": ["a"], "attributes": {"x": None}}}))
    long = RunCampaign.model_validate(
        {
            "name": "spring",
            "audience": {"filter": {"tags": ["a"], "without_tags": [], "attributes": {"x": None}}, "file": None},
            "content": {"text": {"body": "Hello {{ name }}"}, "template": None},
            "message_priority": 0,
        }
    )
    assert short.definition == long.definition
    assert RunCampaign.model_validate(short.definition).definition == short.definition
    assert short.definition["audience"] == {"filter": {"tags": ["a"], "attributes": {"x": None}}}


def test_the_variables_of_all_parts_are_known() -> None:
    parameters = [
        {"type": "text", "text": "{{ a }}"},
        {"type": "document", "document": {"link": "https://x/{{ b }}"}},
    ]
    template = {**TEMPLATE, "components": [{"type": "body", "parameters": parameters}]}
    payload = RunCampaign.model_validate(definition(inline(1), {"template": template}))
    assert payload.content.variables == {"a", "b"}


# How many may wait


def seen(pace: Backpressure, *, begun: int, seconds: float, ahead: int = 0) -> Backpressure:
    return pace.seen(SendProgress(7, ahead, begun), pace.looked_at + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("begun", "seconds", "ahead"),
    [(1, 60.0, LEAST_AHEAD), (100, 5.0, 600), (1_000, 5.0, MOST_AHEAD), (10, 1.0, 300)],
)
def test_as_much_waits_as_is_soon_sent(begun: int, seconds: float, ahead: int) -> None:
    pace = seen(Backpressure.first(NOW), begun=begun, seconds=seconds)
    assert (pace.ahead, pace.message_id) == (ahead, 7)
    assert pace.per_second == begun / seconds
    assert Backpressure.from_json(pace.to_json()).to_json() == pace.to_json()


def test_a_short_look_says_nothing() -> None:
    first = Backpressure.first(NOW)
    assert CampaignProgress.from_json({}).backpressure is None, "nothing was seen yet"
    assert first.ahead == FIRST_AHEAD
    assert seen(first, begun=5, seconds=0.9) is first
    assert seen(first, begun=0, seconds=599.0) is first


def test_where_nothing_begins_for_long_a_few_more_are_tried() -> None:
    probing = seen(Backpressure.first(NOW), begun=0, seconds=600.0, ahead=500)
    assert (probing.ahead, probing.per_second) == (500 + PROBE, 0.0)
    assert seen(probing, begun=0, seconds=599.0, ahead=600) is probing
    assert seen(probing, begun=0, seconds=601.0, ahead=10**6).ahead == MOST_AHEAD + PROBE


def test_it_looks_again_once_half_of_what_waits_has_begun() -> None:
    pace = seen(Backpressure.first(NOW), begun=100, seconds=1.0)
    assert pace.look_seconds(SendProgress(0, 400, 0), NOW) == 2.0
    assert pace.look_seconds(SendProgress(0, 10, 0), NOW) == 1.0
    assert pace.look_seconds(SendProgress(0, 100_000, 0), NOW) == 15.0
    assert Backpressure.first(NOW).look_seconds(SendProgress(0, 500, 0), NOW) == 1.0
    assert Backpressure.first(NOW).look_seconds(SendProgress(0, 500, 0), NOW + timedelta(seconds=20)) == 5.0


def test_without_a_rate_messages_start_when_they_can() -> None:
    assert times(3, None, 0.0, NOW) == [None] * 3


def test_with_a_rate_each_has_its_time() -> None:
    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    assert times(3, None, 2.0, NOW) == [at(0), at(2), at(4)]
    assert times(2, at(-100), 2.0, NOW) == [at(0), at(2)], "what was missed is not made up for"
    assert times(2, at(7), 2.0, NOW) == [at(7), at(9)]
    assert times(100, None, 10.0, NOW) == [at(0), at(10), at(20), at(30)], "no more than soon start"
    assert times(5, at(31), 10.0, NOW) == []


# The first few


@pytest.mark.parametrize(
    ("by_status", "seconds", "kind", "words"),
    [
        ({}, 0, "wait", "10 of the first 10 messages are under way"),
        ({"accepted": 5, "sent": 5}, 0, "wait", "10 of the first 10"),
        ({"delivered": 6, "read": 2, "sent": 2}, 0, "wait", "2 of the first 10"),
        ({"delivered": 8, "failed": 2}, 0, "go on", "2 of the first 10 messages failed"),
        ({"read": 10}, 0, "go on", "0 of the first 10 messages failed"),
        ({"failed": 3}, 0, "stop", "3 of the first 10 messages failed, more than 20%"),
        ({"failed": 3, "delivered": 7}, 0, "stop", "more than 20%"),
        ({"failed": 3}, 601, "stop", "more than 20%"),
        ({"failed": 2, "unknown": 8}, 601, "go on", "2 of the first 10 messages failed"),
        ({}, 600, "go on", "0 of the first 10 messages failed"),
    ],
)
def test_what_is_made_of_the_first(by_status: dict[str, int], seconds: float, kind: str, words: str) -> None:
    canary = Canary(count=10, max_failure_share=0.2, wait="10m")
    decision = decide(canary, 10, by_status, NOW, NOW + timedelta(seconds=seconds))
    assert decision.kind == kind
    assert words in decision.reason


def test_the_time_of_the_next_look_is_not_beyond_the_wait() -> None:
    canary = Canary(count=10, max_failure_share=0.2, wait="10m")
    assert decide(canary, 10, {}, NOW, NOW).look_seconds == 5.0
    assert decide(canary, 10, {}, NOW, NOW + timedelta(seconds=598)).look_seconds == 2.0


KEPT: dict[str, Any] = {
    "audience": 1_201,
    "round": 2,
    "canary": "passed",
    "pace": {"at": "2030-01-01T00:00:00+00:00", "message": 7, "per_second": 1.5, "ahead": 600},
    "next_at": "2030-01-01T00:00:09+00:00",
}
"""As 0.1.0 keeps it."""


def test_progress_is_kept_as_0_1_0_keeps_it() -> None:
    progress = CampaignProgress.from_json(KEPT)
    assert progress == CampaignProgress(
        audience=1_201,
        round=2,
        canary_passed=True,
        backpressure=Backpressure(NOW, 7, 1.5, 600),
        next_at=NOW + timedelta(seconds=9),
    )
    assert progress.to_json() == KEPT
    watched = CampaignProgress.from_json({"canary": "2030-01-01T00:00:00+00:00"})
    assert watched == CampaignProgress(canary_since=NOW)
    assert watched.to_json() == {"canary": "2030-01-01T00:00:00+00:00"}
    assert CampaignProgress.from_json({}) == CampaignProgress()
    assert CampaignProgress().to_json() == {}


def test_what_a_newer_version_keeps_beside_stays() -> None:
    progress = CampaignProgress.from_json({"round": 1, "share": 0.5})
    assert progress.next_round().to_json() == {"round": 2, "share": 0.5}
