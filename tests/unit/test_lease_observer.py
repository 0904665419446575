"""Which leases count as run out, and which steps of the store's clock are noticed."""

from __future__ import annotations

import pytest

from crmd.engine.maintenance.heartbeat import LEASE_S
from crmd.engine.maintenance.lease_observer import EXPIRED_AT_ONCE, LONGEST_GAP_S, LeaseObserver
from crmd.engine.store.limit_clock import StepWatch


class Watch:
    """An observer, its clock, and the list that it looks at."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.observer = LeaseObserver(lambda: self.now)
        self.entries: dict[str, str] = {}
        self.connection = 1.0

    def look(self, seconds: float = 1.0, *, reply_after: float = 0.0) -> dict[str, str]:
        """A look, so long after the last; who is dead then."""
        self.now += seconds
        self.observer.ask(self.connection)
        self.now += reply_after
        self.observer.listed(self.entries)
        return self.observer.dead()

    def watch(self, seconds: float) -> dict[str, str]:
        """Looks once a second."""
        dead: dict[str, str] = {}
        for _ in range(round(seconds)):
            dead = self.look()
        return dead


def test_an_entry_that_stays_as_it_is_for_a_lease_is_a_dead_daemons() -> None:
    watch = Watch()
    watch.entries = {"a": "5", "b": "5"}
    watch.look()
    assert watch.watch(LEASE_S - 1) == {}
    watch.entries["b"] = "6"
    assert watch.look() == {"a": "5"}


def test_any_change_is_a_sign_of_life() -> None:
    watch = Watch()
    for entry in ("900", "100", "101", "50"):
        watch.entries = {"a": entry}
        assert watch.watch(LEASE_S - 1) == {}


def test_a_pause_of_the_observer_counts_as_little() -> None:
    watch = Watch()
    watch.entries = {"a": "5"}
    watch.look()
    assert watch.look(3_600.0) == {}
    assert watch.watch(LEASE_S - LONGEST_GAP_S - 1) == {}
    assert watch.look() == {"a": "5"}


def test_a_slow_reply_begins_no_watch_before_it() -> None:
    watch = Watch()
    watch.entries = {"a": "5"}
    watch.look(reply_after=3.0)
    assert watch.watch(LEASE_S) == {}
    assert watch.watch(2) == {"a": "5"}


def test_another_connection_and_a_failed_renewal_begin_again() -> None:
    watch = Watch()
    watch.entries = {"a": "5"}
    watch.watch(LEASE_S)
    watch.connection = 2.0
    assert watch.watch(LEASE_S) == {}
    watch.observer.restart()
    assert watch.watch(LEASE_S) == {}
    assert watch.look() == {"a": "5"}


def test_a_renewal_that_fails_during_a_look_makes_it_void() -> None:
    watch = Watch()
    watch.entries = {"a": "5"}
    watch.watch(LEASE_S)
    watch.observer.ask(watch.connection)
    watch.observer.restart()
    watch.observer.listed(watch.entries)
    assert watch.observer.dead() == {}


def test_leaving_the_list_is_no_sign_of_life() -> None:
    watch = Watch()
    watch.entries = {"a": "5"}
    watch.watch(LEASE_S)
    watch.entries = {}
    assert watch.look() == {"a": ""}
    watch.observer.forget(["a"])
    assert watch.look() == {}


def test_a_daemon_that_holds_leases_and_is_not_listed_gets_a_whole_lease() -> None:
    watch = Watch()
    watch.look()
    watch.observer.found_unlisted(["a"])
    assert watch.watch(LEASE_S - 1) == {}
    watch.observer.found_unlisted(["a"])
    assert watch.look() == {"a": ""}
    watch.entries = {"a": "7"}
    assert watch.look() == {}


def test_so_many_are_found_dead_at_once() -> None:
    watch = Watch()
    watch.entries = {f"d{n}": "5" for n in range(EXPIRED_AT_ONCE + 1)}
    watch.look()
    dead = watch.watch(LEASE_S)
    assert len(dead) == EXPIRED_AT_ONCE
    watch.observer.forget(dead)
    for epoch in dead:
        del watch.entries[epoch]
    assert len(watch.look()) == 1


# Steps of the clock


class Clocks:
    """Our own clock, and the store's, which a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ahead_ms = 5_000_000
        self.watch = StepWatch(lambda: self.now)

    def look(self, *, there_s: float = 0.001, back_s: float = 0.001) -> float:
        """A trip, a second after the last; what it noticed, in ms."""
        self.now += 1.0
        sent_ms = self.watch.sent_ms()
        self.now += there_s
        clock_ms = round(self.now * 1000) + self.ahead_ms
        self.now += back_s
        return self.watch.see(sent_ms, clock_ms)


@pytest.mark.parametrize("step_ms", [3_600_000, 40_000, -40_000, -3_600_000])
def test_a_step_is_noticed_once(step_ms: int) -> None:
    clocks = Clocks()
    assert [clocks.look() for _ in range(3)] == [0.0, 0.0, 0.0]
    clocks.ahead_ms += step_ms
    assert clocks.look() == pytest.approx(step_ms, abs=10)
    assert clocks.look() == 0.0


def test_slow_trips_and_small_steps_are_none() -> None:
    clocks = Clocks()
    seen = [clocks.look(), clocks.look(there_s=3.0), clocks.look(), clocks.look(back_s=3.0), clocks.look()]
    clocks.ahead_ms += 90
    assert [*seen, clocks.look()] == [0.0] * 6
