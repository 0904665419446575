"""`crmd campaigns` on a real database and store."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.commands import STATUSES
from crmd.crm.campaigns.recipients import NewRecipient
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.errors import ExitCode
from tests.support.cli import Cli, cli, store_cli
from tests.support.database import in_state_folder

__all__ = ["cli", "store_cli"]

AUDIENCE = {"recipients": [{"phone": "+4915"}]}
DEFINITION = {"name": "spring", "audience": AUDIENCE, "content": {"text": {"body": "x"}}}


@pytest.fixture
def desk(store_cli: Cli) -> Cli:
    """With a campaign of three recipients, one of whom is skipped, and a second campaign that is done."""

    async def make(s: Any) -> None:
        one = await campaigns.create_or_get(s, "spring", DEFINITION, "run-1")
        people = [NewRecipient("+491"), NewRecipient("+492"), NewRecipient("12", reason="phone: is too short")]
        await campaign_recipients.add(s, one.id, people)
        one.total = 3
        [first] = await campaign_recipients.pending(s, one.id, 1)
        await campaign_recipients.mark_queued(s, [first.id])
        await campaigns.move(s, await campaigns.create_or_get(s, "old", DEFINITION, "run-2"), CampaignStatus.DONE)

    in_state_folder(store_cli.state_dir, make)
    return store_cli


def test_the_statuses_are_those_of_campaigns() -> None:
    assert tuple(status.value for status in CampaignStatus) == STATUSES


def test_it_says_what_to_do_where_there_is_none(store_cli: Cli) -> None:
    async def nothing(_s: Any) -> None: ...

    assert store_cli("campaigns").complaint.startswith("there are no records yet")
    in_state_folder(store_cli.state_dir, nothing)
    assert store_cli("campaigns").complaint.startswith("there are no campaigns; add a job run_campaign")


def test_it_lists_the_newest_first(desk: Cli) -> None:
    lines = desk("campaigns").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["2", "old", "done"], ["1", "spring", "running"]]
    assert [one["name"] for one in desk("campaigns", "list", "--status", "running", "--json").json] == ["spring"]
    assert [one["name"] for one in desk("campaigns", "list", "--limit", "1", "--json").json] == ["old"]
    assert desk("campaigns", "list", "--status", "away").code == ExitCode.USAGE


def test_it_shows_one(desk: Cli) -> None:
    text = desk("campaigns", "show", "1").out
    assert "campaign    spring\n" in text
    assert "progress    67% of 3 recipients\n" in text
    assert "recipients  1 pending, 1 queued, 1 skipped\n" in text
    assert "phone: is too short" in text
    shown = desk("campaigns", "show", "1", "--json").json
    assert shown["recipients"] == {"pending": 1, "queued": 1, "skipped": 1}
    assert shown["job"] == {"queue": "campaign", "key": "run-1"}
    assert "+4915" not in str(shown)
    assert desk("campaigns", "show", "9").complaint == "there is no campaign 9"
    assert desk("campaigns", "show", "0").code == ExitCode.USAGE


def test_it_pauses_and_resumes_with_the_campaigns_job(desk: Cli) -> None:
    done = desk("campaigns", "pause", "1", "--reason", "wrong price")
    assert (done.code, done.out) == (ExitCode.OK, "campaign 1 (spring): paused\n")
    paused = desk("campaigns", "show", "1", "--json").json
    assert (paused["status"], paused["reason"]) == ("paused", "wrong price")
    assert paused["recipients"] == {"pending": 2, "queued": 0, "skipped": 1}, "taken back"
    assert desk("campaigns", "resume", "1").out == "campaign 1 (spring): resumed\n"
    assert desk("campaigns", "show", "1", "--json").json["status"] == "running"
    assert desk("job", "campaign", "run-1", "--json").json["job"] == "run_campaign"


def test_it_cancels_for_good(desk: Cli) -> None:
    assert desk("campaigns", "cancel", "1", "--json").json["status"] == "cancelled"
    again = desk("campaigns", "resume", "1")
    assert again.code == ExitCode.FAILED
    assert again.complaint == "campaign 'spring' is cancelled; running can follow paused"
    assert desk("campaigns", "pause", "2").complaint == "campaign 'old' is done and all its messages have begun"
