"""The state folder: permissions, lock, identity and private files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from crmd.embedded.state_folder import StateDir
from crmd.errors import ConfigError, ExitCode, StateDirTaken

HOLD = """
import sys, time
from pathlib import Path
from crmd.embedded.state_folder import StateDir
StateDir(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """One that is there."""
    made = StateDir(tmp_path / "state")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_constructor_touches_nothing(tmp_path: Path) -> None:
    StateDir(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_create_makes_a_private_folder(tmp_path: Path) -> None:
    StateDir(tmp_path / "a" / "state").create()
    assert mode(tmp_path / "a" / "state") == 0o700


def test_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert StateDir(Path("state")).path == tmp_path / "state"


def test_an_empty_folder_that_is_open_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    StateDir(path).create()
    assert mode(path) == 0o700


def test_a_foreign_folder_that_is_open_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir(mode=0o755)
    (path / "letter").write_text("dear")
    with pytest.raises(ConfigError, match="chmod 700") as caught:
        StateDir(path).lock()
    assert mode(path) == 0o755
    assert "\n" not in str(caught.value)


def test_an_open_folder_that_was_ours_before_is_closed(state: StateDir) -> None:
    assert state.host_id
    state.path.chmod(0o755)
    state.create()
    assert mode(state.path) == 0o700


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be used as a folder: File exists.*--state-dir") as caught:
        StateDir(tmp_path / "state").lock()
    assert caught.value.exit_code == ExitCode.CONFIG
    assert caught.value.problems[0].key == "daemon.state_dir"


def test_lock_refuses_a_second_holder_and_names_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateDirTaken, match=rf"process {holder.pid}\b.*--state-dir") as caught:
            StateDir(tmp_path / "state").lock()
        assert caught.value.exit_code == ExitCode.UNAVAILABLE
        holder.kill()
        holder.wait()
        # The kernel let go of it: the killed holder did nothing.
        state = StateDir(tmp_path / "state")
        state.lock()
        assert state.locked
        state.release()


def test_lock_and_release_may_be_repeated(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.release()
    state.lock()
    state.lock()
    with pytest.raises(StateDirTaken):
        StateDir(tmp_path / "state").lock()
    state.release()
    state.release()
    assert not state.locked
    other = StateDir(tmp_path / "state")
    other.lock()
    other.release()


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.lock()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        state.release()
        other = StateDir(tmp_path / "state")
        other.lock()
        other.release()
        child.kill()


def test_identity_is_stable_and_private(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path / "state"), StateDir(tmp_path / "state")
    first.create()
    assert first.host_id == second.host_id
    assert len(first.host_id) == 32
    assert int(first.host_id, 16) > 0
    assert mode(first.path / "identity") == 0o600


def test_private_files(state: StateDir) -> None:
    assert state.read_private("secret") is None
    old_umask = os.umask(0)
    try:
        state.write_private("secret", "eins zwei ☎\n")
        state.write_private("secret", "drei ☎\n")
    finally:
        os.umask(old_umask)
    assert state.read_private("secret") == "drei ☎\n"
    assert mode(state.path / "secret") == 0o600
    assert sorted(entry.name for entry in state.path.iterdir()) == ["secret"]
    state.delete_private("secret")
    state.delete_private("secret")
    assert state.read_private("secret") is None


@pytest.mark.parametrize("name", ["../secret", "a/b", "", ".hidden", "/etc/passwd"])
def test_private_names_stay_in_the_folder(state: StateDir, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        state.write_private(name, "x")


def test_a_private_file_that_cannot_be_written_is_one_clear_line(state: StateDir) -> None:
    (state.path / "secret").mkdir()
    with pytest.raises(ConfigError, match="its file secret cannot be written"):
        state.write_private("secret", "x")
    assert sorted(entry.name for entry in state.path.iterdir()) == ["secret"]
