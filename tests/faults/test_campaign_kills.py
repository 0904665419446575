"""A campaign to many contacts whose daemon is killed again and again."""

from __future__ import annotations

import pytest

from tests.faults.figures import report
from tests.support import campaign_kills
from tests.support.campaign_kills import Kill
from tests.support.daemon import Daemons

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_a_campaign_to_five_thousand_contacts_and_three_kills(daemons: Daemons) -> None:
    kills = [Kill(800, taken=10), Kill(2_200, taken=4, lost=3), Kill(3_700)]
    told = campaign_kills.run(daemons, count=5_000, rate="200/s", kills=kills, timeout=240)
    report(
        f"{len(told.taken)} messages in {told.seconds:.0f} s, unknown jobs {told.unknown_jobs}, "
        f"{told.settled} of them settled by webhooks"
    )
    campaign_kills.check(told, 5_000, kills)
