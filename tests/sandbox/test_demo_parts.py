"""What the demo ships fits what crmd takes, and its folder is no other."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path

import pytest

from crmd.config.load import load
from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.contacts.phones import normal_phone
from crmd.crm.flows.definition import check_flow
from crmd.errors import CrmdError
from crmd.sandbox.demo.folder import MARK, DemoFolder, shipped
from crmd.sandbox.settings import Addresses, SandboxSettings
from tests.support.cli import Cli

ADDRESSES = Addresses("127.0.0.1", 12345, 12346)


def test_the_contacts_are_30_of_one_number_each_and_two_wrong_rows() -> None:
    rows = list(csv.DictReader(shipped("contacts.csv").decode().splitlines(), delimiter=";"))
    good, bad = rows[:-2], rows[-2:]
    assert len({normal_phone(row["Mobile"], "DE") for row in good}) == len(good) == 30
    assert all("newsletter" in row["Tags"] and row["E-mail"].endswith("@example.com") for row in good)
    for row in bad:
        with pytest.raises(ValueError, match=r"phone|number"):
            normal_phone(row["Mobile"], "DE")


def test_the_campaign_and_the_flow_are_sound() -> None:
    campaign = RunCampaign.model_validate_json(shipped("campaign.json"))
    assert campaign.content.variables == {"name", "City"}
    flow = json.loads(shipped("flow.json"))
    assert check_flow(flow, "questions").start.on == "message"
    assert [step["endpoint"] for step in flow["steps"] if step["type"] == "webhook"] == ["shop"]


def test_the_folder_is_made_anew_each_time(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    folder.prepare()
    folder.write_config(8088, ADDRESSES, SandboxSettings())
    folder.state.mkdir()
    (folder.state / "x").touch()
    (tmp_path / "kept").touch()
    (folder.path / "link").symlink_to(tmp_path)
    loaded = load(path=folder.config, environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert loaded.warnings == []
    assert loaded.settings.http.port == 8088
    assert loaded.settings.daemon.state_dir == folder.state
    assert loaded.settings.webhook.endpoints["shop"].url == "http://127.0.0.1:12345/hooks/shop"
    folder.prepare()
    assert sorted(path.name for path in folder.path.iterdir()) == [
        MARK,
        "campaign.json",
        "contacts.csv",
        "flow.json",
    ]
    assert (tmp_path / "kept").exists()


def test_a_folder_in_which_a_demo_runs_is_left_alone(state_folder: Path) -> None:
    folder = DemoFolder(state_folder / "demo")
    folder.prepare()
    folder.state.mkdir()
    with socket.socket(socket.AF_UNIX) as store:
        store.bind(str(folder.state / "store.sock"))
        store.listen()
        with pytest.raises(CrmdError, match="another demo runs"):
            folder.prepare()
    folder.prepare()
    assert not folder.state.exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(CrmdError, match="not of a demo"):
        DemoFolder(tmp_path).prepare()
    assert (tmp_path / "precious").exists()
    result = cli("demo", "--folder", str(tmp_path))
    assert result.code == 1
    assert "--folder" in result.complaint
    blocked = tmp_path / "precious" / "demo"
    with pytest.raises(CrmdError, match="cannot be used"):
        DemoFolder(blocked).prepare()
