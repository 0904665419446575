"""Meta's rate rules in literal cases, at the stand-in's rules and through its HTTP."""

from __future__ import annotations

import pytest

from crmd.sandbox import limits
from crmd.sandbox.limits import BucketRule, PairRule, ThroughputRule
from tests.sandbox.conftest import ANN, BOB, SandboxHarness, Start

T0 = 1_800_000_000.0


def sent(rule: PairRule, at: float, count: int = 1, to: str = ANN) -> int:
    """How many of `count` messages pass at one moment."""
    passed = 0
    for _ in range(count):
        if rule.admits(to, at):
            rule.count(to, at)
            passed += 1
    return passed


@pytest.fixture
def rule() -> PairRule:
    return PairRule(seconds=6.0, burst=45)


@pytest.mark.parametrize(
    "tries",
    [
        pytest.param(
            [(0, 20, 20), (60, 1, 0), (119.9, 1, 0), (120, 1, 1)],
            id="20 at once, then the 21st after 60 s is refused and after 120 s passes",
        ),
        pytest.param(
            [*((n * 0.13, 1, 1) for n in range(45)), (5.9, 1, 0), (269.9, 1, 0), (270, 1, 1)],
            id="45 within 6 s pass and the 46th does not",
        ),
        pytest.param(
            [(0, 9, 9), (5.99, 1, 1), (11.99, 1, 0), (59.9, 1, 0), (60, 1, 1)],
            id="a burst is over after 6 s without a message",
        ),
        pytest.param(
            [(0, 3, 3), (7, 1, 1), *((10 + 3 * n, 1, 1) for n in range(10))], id="quick replies are not a burst"
        ),
        pytest.param(
            [(0, 20, 20), *((10 + n, 1, 0) for n in range(100)), (120, 60, 45)],
            id="refused messages cost nothing and rest gives a whole burst again",
        ),
        pytest.param([(6 * n, 1, 1) for n in range(600)], id="one each 6 s goes on for ever"),
    ],
)
def test_the_pair_rule(rule: PairRule, tries: list[tuple[float, int, int]]) -> None:
    """After so many seconds so many messages are tried, of which so many pass."""
    assert [sent(rule, T0 + after, count) for after, count, _ in tries] == [passed for _, _, passed in tries]


def test_10_a_minute_and_600_an_hour(rule: PairRule) -> None:
    tries = [T0 + second for second in range(7200)]
    passed = [at for at in tries if sent(rule, at)]
    first_hour = len([at for at in passed if at < T0 + 3600])
    assert 600 - 6 <= first_hour <= 600 + 45, "what the hour gives, and what the last burst borrowed"
    assert len(passed) == pytest.approx(1200, abs=45)


def test_each_pair_has_its_own_quota(rule: PairRule) -> None:
    assert sent(rule, T0, 60) == 45
    assert sent(rule, T0, 60, BOB) == 45


def test_80_a_second_and_not_81() -> None:
    rule = ThroughputRule(80)
    for n in range(80):
        assert rule.admits(T0 + n / 100)
        rule.count(T0 + n / 100)
    assert not rule.admits(T0 + 0.99)
    assert rule.admits(T0 + 1.0)
    rule.count(T0 + 1.0)
    assert not rule.admits(T0 + 1.0)
    assert rule.admits(T0 + 1.01)


def test_a_bucket_lets_its_size_through_at_once_and_then_the_rate() -> None:
    rule = BucketRule(80, 10)
    assert [burst(rule, T0, 20), burst(rule, T0 + 0.055, 20), burst(rule, T0 + 60, 20)] == [10, 4, 10]
    for _ in range(30):
        rule.count(T0 + 60)  # what people write is not refused
    assert burst(rule, T0 + 60.055, 20) == 4


def burst(rule: BucketRule, at: float, count: int) -> int:
    """How many of `count` messages pass at one moment."""
    passed = 0
    while passed < count and rule.admits(at):
        rule.count(at)
        passed += 1
    return passed


def test_what_is_remembered_is_bounded(rule: PairRule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PAIRS", 10)
    for n in range(30):
        assert sent(rule, T0, 2, f"49151{n:07}") == 2
    assert len(rule._pairs) <= 10
    assert sent(rule, T0 + 1, 44, "491510000029") == 43, "the last one is still known"


async def test_the_pair_limit_over_http(harness: SandboxHarness) -> None:
    for _ in range(20):
        assert (await harness.send()).status == 200
    harness.clock.now += 60
    refused = await harness.send()
    assert refused.status == 429
    assert refused.json["error"]["code"] == 131056
    assert (await harness.send(BOB)).status == 200, "other recipients continue"
    assert (await harness.send(f"+{ANN}")).status == 429, "a plus is no other recipient"
    harness.clock.now += 60
    assert (await harness.send()).status == 200


async def test_the_throughput_limit_over_http(start: Start) -> None:
    harness = await start(messages_per_second=5)
    answers = [await harness.send(f"4915112345{n:03}") for n in range(6)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert answers[5].json["error"]["code"] == 130429
    harness.clock.now += 1
    assert (await harness.send()).status == 200


async def test_inbound_messages_count_for_the_throughput(start: Start) -> None:
    harness = await start(messages_per_second=2)
    for _ in range(2):
        await harness.admin("POST", "/inbound", {"from": BOB, "text": "hi"})
    assert (await harness.send()).json["error"]["code"] == 130429
