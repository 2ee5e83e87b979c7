"""INFER_DEV_USER: root starts infer-dev, in whatever way, and the daemon and its instances are another user's."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, STAND_IN, Cli, eventually, is_alive
from tests.parts.booted import Booted
from tests.parts.bundles import small
from tests.parts.reachable import as_user, reachable

USER = "daemon"
EXTRA_GROUP = 4242
ENTRY = pwd.getpwnam(USER)


class Place:
    """A folder that anybody may enter, and the command line as root and as the account.

    Attributes:
        folder: root's, with `logs` to be made in it.
        root, user: the command line.
        before: words before a command that has to see the same files.
    """

    def __init__(self, folder: Path, before: list[str], user: str) -> None:
        self.folder, self.runtime, self.before = folder, folder / "run", before
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AUTO_", "INFER_", "COV"))}
        env |= {"INFER_DEV_RUNTIME_DIR": str(self.runtime), "INFER_DEV_USER": user, "NO_COLOR": "1"}
        env |= {"XDG_DATA_HOME": str(folder / "data"), "XDG_RUNTIME_DIR": "/root/none"}
        self.root = Cli(self.runtime, env, before)
        self.user = Cli(self.runtime, env | {"HOME": "/"}, [*before, *as_user(USER)])

    def rack(self, port: int, log_dir: str = "") -> Path:
        path = self.folder / "rack.toml"
        path.write_text(
            f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.a.control]\nlog_dir = "{log_dir or self.logs}"\n'
            f'[instance.a.server]\nmodel = "/m.gguf"\nport = {port}\n'
        )
        return path

    @property
    def logs(self) -> Path:
        return self.folder / "logs" / "of" / "servers"

    def boot(self, *command: str, **env: str) -> Booted:
        no_coverage = {name: "" for name in os.environ if name.startswith("COV")}
        return Booted(self.folder, *command, before=self.before, env=self.root.env | no_coverage | env)


@pytest.fixture
def places() -> Iterator[Callable[..., Place]]:
    """Makes one place for an account; the default is a name."""
    folder = Path(tempfile.mkdtemp(prefix="infer-dev-test-"))  # pytest's own may be entered by root alone
    folder.chmod(0o755)
    groups = folder / "group"
    groups.write_text(f"{Path('/etc/group').read_text()}extra:x:{EXTRA_GROUP}:{USER}\n")
    made: list[Place] = []
    with reachable({"/etc/group": groups}) as before:

        def one(user: str = USER) -> Place:
            made.append(Place(folder, before, user))
            return made[-1]

        yield one
        for place in made:
            place.root("down")
    shutil.rmtree(folder)


def daemon(place: Place) -> dict[str, Any]:
    shown = place.root("status", "--json")
    return json.loads(shown.stdout)["daemon"] if shown.returncode in (0, 1) else {}


def facts(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def environ(pid: int) -> dict[str, str]:
    items = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(item.partition("=")[::2] for item in items if item)


def assert_is_of_account(pid: int, *, gid: int = ENTRY.pw_gid, groups: str = f"{ENTRY.pw_gid} {EXTRA_GROUP}") -> None:
    found = facts(pid)
    assert found["Uid"] == " ".join([str(ENTRY.pw_uid)] * 4)
    assert found["Gid"] == " ".join([str(gid)] * 4)
    assert found["Groups"] == groups
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert os.stat(f"/proc/{pid}").st_uid == ENTRY.pw_uid  # so that this user may look into it
    of_env = environ(pid)
    assert [of_env[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")] == [
        ENTRY.pw_dir,
        USER,
        USER,
        ENTRY.pw_shell,
    ]
    assert "XDG_RUNTIME_DIR" not in of_env


def test_up_by_root_makes_daemon_and_instances_the_account_s(places: Any, free_port: Callable[[], int]) -> None:
    place = places()
    up = place.root("up", place.rack(free_port()))
    assert up.returncode == 0, up.stderr
    instance = place.root.status()["a"]
    assert_is_of_account(int(daemon(place)["pid"]))
    assert_is_of_account(int(str(instance["pid"])))
    assert place.runtime.stat().st_mode & 0o7777 == 0o700
    made = [place.runtime, *place.runtime.rglob("*"), place.folder / "logs", place.logs.parent, place.logs]
    made += place.logs.iterdir()
    assert {path.stat().st_uid for path in made} == {ENTRY.pw_uid}
    assert "daemon.log" in {path.name for path in made}
    assert place.folder.stat().st_uid == 0


def test_account_and_root_reach_the_same_daemon(places: Any, free_port: Callable[[], int]) -> None:
    place = places()
    rack = place.rack(free_port())
    assert place.user("up", rack).returncode != 0  # root alone can make the folder of its logs
    assert place.root("up", rack).returncode == 0
    pid = daemon(place)["pid"]
    assert json.loads(place.user("status", "--json").stdout)["daemon"]["pid"] == pid
    assert place.user("restart", "a").returncode == 0
    assert place.root("restart", "a").returncode == 0
    assert "infer-dev" in place.user("logs", "a").stdout
    assert place.root("daemon", "--replace").returncode == 0
    assert_is_of_account(int(daemon(place)["pid"]))
    assert daemon(place)["pid"] != pid
    assert place.root.status()["a"]["adopted"]
    assert place.user("down").returncode == 0


def test_daemon_by_hand_drops_root(places: Any) -> None:
    place = places()
    process = place.root.start("daemon")
    eventually(lambda: daemon(place).get("pid") == process.pid)
    assert_is_of_account(process.pid)
    assert place.user("down").returncode == 0
    assert process.wait(30) == 0
    process.communicate()


def test_number_without_an_entry_gets_group_0_as_in_docker(places: Any, free_port: Callable[[], int]) -> None:
    place = places("54321")
    up = place.root("up", place.rack(free_port()))
    assert up.returncode == 0, up.stderr
    pid = int(daemon(place)["pid"])
    found = facts(pid)
    assert (found["Uid"].split()[0], found["Gid"].split()[0], found["Groups"]) == ("54321", "0", "0")
    assert found["CapEff"] == "0" * 16
    assert environ(pid)["HOME"] == "/"


def test_number_with_an_entry_is_that_account(places: Any, free_port: Callable[[], int]) -> None:
    place = places(str(ENTRY.pw_uid))
    assert place.root("up", place.rack(free_port())).returncode == 0
    assert_is_of_account(int(daemon(place)["pid"]))


@pytest.mark.parametrize("user", ["", "root", "0", "00"])
def test_root_itself_changes_nothing(places: Any, user: str, free_port: Callable[[], int]) -> None:
    place = places(user)
    assert place.root("up", place.rack(free_port(), log_dir=str(place.folder))).returncode == 0
    assert facts(int(daemon(place)["pid"]))["Uid"] == "0 0 0 0"
    assert place.runtime.stat().st_uid == 0


def test_who_is_not_root_goes_on_as_itself(places: Any, free_port: Callable[[], int]) -> None:
    place = places("nobody")
    place.runtime.mkdir(mode=0o700)
    place.logs.mkdir(parents=True)
    for folder in (place.runtime, place.logs):
        os.chown(folder, ENTRY.pw_uid, ENTRY.pw_gid)
    up = place.user("up", place.rack(free_port()))
    assert up.returncode == 0, up.stderr
    assert facts(int(daemon(place)["pid"]))["Uid"].split()[0] == str(ENTRY.pw_uid)


@pytest.mark.parametrize("command", [["daemon"], ["up", "/rack.toml"], ["bundle", "list"]])
def test_unknown_account_is_refused_and_nothing_runs_as_root(places: Any, command: list[str]) -> None:
    place = places("no-such-account")
    refused = place.root(*command)
    assert refused.returncode == 78
    assert "cannot become the user 'no-such-account' (INFER_DEV_USER): there is no such account" in refused.stderr
    assert place.root("status").returncode == 69


def test_bundles_are_installed_as_the_account(places: Any) -> None:
    place = places()
    prefix = place.folder / "prefix"
    prefix.mkdir()
    os.chown(prefix, ENTRY.pw_uid, ENTRY.pw_gid)
    for version in (1, 2):
        archive = small(place.folder / f"bundle-{version}.tar", version)
        installed = place.root("bundle", "install", archive, "--prefix", prefix)
        assert installed.returncode == 0, installed.stderr
    rolled_back = place.root("bundle", "rollback", "--prefix", prefix)
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert {path.lstat().st_uid for path in prefix.rglob("*")} == {ENTRY.pw_uid}
    archive.chmod(0o600)
    refused = place.root("bundle", "install", archive, "--prefix", prefix)
    assert refused.returncode != 0
    assert "is not readable" in refused.stderr


def test_links_planted_in_the_runtime_directory_are_not_followed(places: Any, free_port: Callable[[], int]) -> None:
    place = places()
    place.runtime.mkdir(mode=0o700)
    os.chown(place.runtime, ENTRY.pw_uid, ENTRY.pw_gid)
    precious = place.folder / "precious"
    precious.write_text("untouched\n")
    names = ("daemon.log", "boot-error", "boot-error.new", ".boot-error.1", "boot.pid", "boot.pid.new")
    for name in names:
        (place.runtime / name).symlink_to(precious)
    up = place.root("up", place.rack(free_port()))
    assert up.returncode == 69
    assert "cannot start the daemon" in up.stderr
    booted = place.boot("sleep", "1000", AUTO_INFER_LLAMA_CPP_ON_BOOT="1")
    try:
        eventually(lambda: "cannot start the instances" in (place.runtime / "boot-error").read_text())
        assert not (place.runtime / "boot.pid").is_symlink()
    finally:
        booted.clean_up()
    assert precious.read_text() == "untouched\n"
    assert precious.stat().st_uid == 0


def test_boot_keeps_the_daemon_as_the_account(places: Any, free_port: Callable[[], int]) -> None:
    place = places()
    env = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": str(place.rack(free_port()))}
    booted = place.boot("sh", "-c", "id -u; sleep 1000", **env)
    try:
        eventually(lambda: place.root.status().get("a", {}).get("state") == "ready")
        first = booted.daemon_pid()
        assert_is_of_account(first)
        instance = int(str(place.root.status()["a"]["pid"]))
        assert_is_of_account(instance)
        assert booted.output.splitlines().count("0") == 1  # the command is root's
        assert (place.runtime / "boot.pid").stat().st_mode & 0o777 == 0o644
        os.kill(first, signal.SIGKILL)
        eventually(lambda: place.root.status().get("a", {}).get("adopted"))
        assert place.root.status()["a"]["pid"] == instance
        assert booted.daemon_pid() not in (0, first)
        assert_is_of_account(booted.daemon_pid())
        assert place.user("status").returncode == 0
        booted.signal(signal.SIGTERM)
        assert booted.wait() == 143
        assert not is_alive(instance)
    finally:
        left = booted.clean_up()
    assert left == []
    assert "Traceback" not in booted.output


def test_boot_with_an_unknown_account_tells_it_once_and_goes_on(places: Any) -> None:
    place = places("no-such-account")
    booted = place.boot("sh", "-c", "echo up; sleep 1000")
    try:
        eventually((place.runtime / "boot-error").exists)
        told = (place.runtime / "boot-error").read_text()
        assert told.startswith(
            "cannot become the user 'no-such-account' (INFER_DEV_USER): there is no such account\n"
        )
        eventually(lambda: "up\n" in booted.output)
        assert booted.daemon_pid() == 0
        assert booted.wrapper.poll() is None
        booted.signal(signal.SIGTERM)
        assert booted.wait() == 143
        assert booted.output.count("there is no such account") == 1
    finally:
        booted.clean_up()


def test_boot_starts_the_daemon_once_the_account_is_made(places: Any) -> None:
    place = places("late")
    passwd = place.folder / "passwd"
    shutil.copyfile("/etc/passwd", passwd)
    bound = subprocess.run([*place.before, "mount", "--bind", passwd, "/etc/passwd"], check=True)
    assert bound.returncode == 0
    booted = place.boot("sleep", "1000")
    try:
        eventually((place.runtime / "boot-error").exists)
        with passwd.open("a") as file:
            file.write("late:x:54322:1::/nowhere:/bin/sh\n")
        eventually(lambda: daemon(place).get("pid"))
        assert facts(int(daemon(place)["pid"]))["Uid"].split()[0] == "54322"
        eventually(lambda: not (place.runtime / "boot-error").exists())
    finally:
        booted.clean_up()


def test_python_that_the_account_cannot_enter_is_told(places: Any) -> None:
    place = places()
    hidden = place.folder / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "python").symlink_to(Path(sys.executable).resolve())
    site = next(path for path in sys.path if path.endswith("site-packages"))
    refused = subprocess.run(
        [*place.before, hidden / "python", "-m", "infer_dev", "daemon"],
        cwd=ROOT,
        env=place.root.env | {"PYTHONPATH": site},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 78
    assert "cannot run" in refused.stderr
    assert "as the user 'daemon' (INFER_DEV_USER): Permission denied" in refused.stderr


def test_plan_is_read_with_the_home_of_the_account(places: Callable[..., Place]) -> None:
    place = places()
    config = place.folder / "rack.toml"
    config.write_text('[instance.a.server]\nmodel = "/m.gguf"\n')
    told = place.root("up", config, XDG_DATA_HOME="", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    assert told.returncode == 69
    assert f"{ENTRY.pw_dir}/.local/share/infer-dev/" in told.stderr
    assert "/root/" not in told.stderr


def test_check_by_root_takes_the_log_folder_as_made_that_root_would_make(
    places: Any, free_port: Callable[[], int]
) -> None:
    place = places()
    rack = place.rack(free_port())
    assert "log-unwritable" in place.user("check", "--json", rack).stdout
    assert "log-unwritable" not in place.root("check", "--json", rack).stdout
    assert not place.logs.parent.exists()
    assert place.root("up", rack).returncode == 0
