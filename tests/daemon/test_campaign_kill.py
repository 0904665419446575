"""A campaign whose daemon is killed on the way: nobody gets two messages, and nobody is forgotten."""

from __future__ import annotations

from tests.support import campaign_kills
from tests.support.campaign_kills import Kill
from tests.support.daemon import Daemons


def test_a_killed_daemon_messages_nobody_twice(daemons: Daemons) -> None:
    kills = [Kill(20, taken=3, lost=2)]
    told = campaign_kills.run(daemons, count=60, rate="60/s", kills=kills, timeout=30)
    campaign_kills.check(told, 60, kills)
