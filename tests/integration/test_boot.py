"""Boot for real: as PID 1, under tini, and as an ordinary process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, Cli, eventually, is_alive
from tests.parts.booted import Booted, children, stat_fields

Boots = Callable[..., Booted]
EVERYWHERE = pytest.mark.parametrize("how", ["pid-1", "tini"])
OF_LIBC = 0b11 << 31  # signals 32 and 33 are glibc's own: no program can change what becomes of them
QUICK = {"silent_s": 1.0, "unwatched_s": 0.5}


@pytest.fixture
def boots(tmp_path: Path) -> Iterator[Boots]:
    """Starts boots; what they leave behind is ended."""
    made: list[Booted] = []

    def one(*command: str, **options: object) -> Booted:
        if options.get("how") == "tini" and shutil.which("tini") is None:
            pytest.skip("no tini here: apt-get install tini")
        folder = tmp_path / f"boot-{len(made)}"
        folder.mkdir()
        made.append(Booted(folder, *command, **options))
        return made[-1]

    yield one
    for booted in made:
        booted.clean_up()
        assert "Traceback" not in booted.output, booted.output


@EVERYWHERE
@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_boot_exits_as_the_command_does_and_leaves_nothing(boots: Boots, how: str, script: str, status: int) -> None:
    booted = boots("sh", "-c", script, how=how)
    assert booted.wait() == status
    assert booted.processes() == []


@EVERYWHERE
def test_boot_without_command_runs_until_term(boots: Boots, how: str) -> None:
    booted = boots(how=how)
    eventually(lambda: "listens on" in booted.output)
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 0
    assert booted.processes() == []


def test_options_of_the_command_are_its_own(boots: Boots) -> None:
    booted = boots(sys.executable, "-c", "import sys; print(sys.argv[1:])", "--help", "--json", "--", "-h")
    assert booted.wait() == 0
    assert "['--help', '--json', '--', '-h']" in booted.output


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_command_that_cannot_run_is_told_with_the_status_of_a_shell(boots: Boots, command: str, status: int) -> None:
    booted = boots(command)
    assert booted.wait() == status
    assert f"cannot run '{command}'" in booted.output


def test_term_reaches_the_command_and_its_group(boots: Boots) -> None:
    booted = boots("sh", "-c", "sleep 1000 & trap 'echo got-term; exit 9' TERM; echo up; wait", how="pid-1")
    eventually(lambda: "up\n" in booted.output)
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 9
    assert "got-term" in booted.output


@EVERYWHERE
def test_command_that_ignores_term_is_killed_within_the_budget(boots: Boots, how: str) -> None:
    script = "trap '' TERM; setsid sleep 1000 & echo up; while :; do sleep 1; done"
    booted = boots("sh", "-c", script, how=how, env={"INFER_DEV_STOP_GRACE_S": "1"})
    eventually(lambda: "up\n" in booted.output)
    booted.signal(signal.SIGTERM)
    assert booted.wait(20) == 137
    assert booted.processes() == []
    assert "everything has ended, the command by SIGKILL; exit status 137" in booted.output.splitlines()[-1]


@EVERYWHERE
def test_what_the_command_leaves_behind_gets_term_first(boots: Boots, how: str) -> None:
    left = "trap 'echo left-got-term; exit' TERM; echo up; while :; do sleep 0.1; done"
    booted = boots("sh", "-c", 'setsid sh -c "$0" & sleep 1000', left, how=how)
    eventually(lambda: "up\n" in booted.output)
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143
    assert "left-got-term" in booted.output
    assert booted.processes() == []
    assert "everything has ended in order; exit status 143" in booted.output.splitlines()[-1]


def test_second_term_ends_all_at_once(boots: Boots) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 1; done"
    booted = boots("sh", "-c", script, fake_daemon=["--ignore-sigterm"], parts={"limits": {"grace_s": 1000}})
    eventually(lambda: "up\n" in booted.output and booted.noted(word="beat"))
    booted.signal(signal.SIGTERM)
    eventually(lambda: booted.noted(word="SIGTERM"))
    assert booted.wrapper.poll() is None
    booted.signal(signal.SIGINT)
    assert booted.wait(30) == 137
    assert len(booted.noted(word="SIGTERM")) == 2
    assert booted.processes() == []


def test_children_get_clean_signals(boots: Boots) -> None:
    booted = boots("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", how="pid-1")
    assert booted.wait() == 0
    found = dict(line.split(":\t") for line in booted.output.splitlines() if line.startswith("Sig"))
    assert {name: int(mask, 16) & ~OF_LIBC for name, mask in found.items()} == {"SigBlk": 0, "SigIgn": 0}


def test_signals_are_forwarded(boots: Boots) -> None:
    script = "trap 'echo got-usr1' USR1; trap 'echo got-usr2' USR2; echo up; while :; do sleep 0.1; done"
    booted = boots("sh", "-c", script, fake_daemon=[])
    eventually(lambda: "up\n" in booted.output and booted.noted(word="beat"))
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        booted.signal(number)
    eventually(lambda: "got-usr1" in booted.output and "got-usr2" in booted.output and booted.noted(word="SIGHUP"))
    assert booted.wrapper.poll() is None


FORK_MANY = """
import os, sys, time
if os.fork() == 0:
    for _ in range(10000):
        if os.fork() == 0:
            os._exit(0)
    os.write(1, b"forked\\n")
    os._exit(0)
time.sleep(1000)
"""


@EVERYWHERE
def test_ten_thousand_orphans_leave_no_zombie(boots: Boots, how: str) -> None:
    booted = boots(sys.executable, "-S", "-E", "-c", FORK_MANY, how=how)
    eventually(lambda: "forked" in booted.output)
    boot = booted.pid()
    # the one that forked them is a child of the command's, which never reaps it
    eventually(lambda: len(children(boot)) == 2)
    assert all(stat_fields(pid)[0] != "Z" for pid in children(boot))
    assert is_alive(booted.daemon_pid())


# Prints its pid and start time once its parent is gone, and ends as told.
ORPHAN = """
import os, sys, time
middle = os.fork()
if middle == 0:
    middle = os.getpid()
    if os.fork() == 0:
        while os.getppid() == middle:
            time.sleep(0.01)
        print("orphan", os.getpid(), open("/proc/self/stat").read().rpartition(")")[2].split()[19], flush=True)
        os.kill(os.getpid(), 9) if sys.argv[1] == "kill" else os._exit(5)
    os._exit(0)
os.waitpid(middle, 0)
time.sleep(1000)
"""


@EVERYWHERE
@pytest.mark.parametrize(("way", "code"), [("exit", 5), ("kill", -9)])
def test_exit_status_of_an_orphan_is_told_to_this_daemon_and_the_next(
    boots: Boots, how: str, way: str, code: int
) -> None:
    booted = boots(sys.executable, "-c", ORPHAN, way, how=how, fake_daemon=[])
    eventually(lambda: "orphan" in booted.output)
    pid, start_time = next(line for line in booted.output.splitlines() if line.startswith("orphan")).split()[1:]
    told = f"exit {pid} {start_time} {code}"
    eventually(lambda: booted.noted(word=told))
    first = booted.daemon_pid()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(booted.noted(word=told)) == 2)
    assert booted.daemon_pid() not in (0, first)


def test_killed_daemon_is_followed_by_one_that_answers(boots: Boots, cli: Cli) -> None:
    booted = boots("sleep", "1000")
    eventually(lambda: "listens on" in booted.output)
    first = booted.daemon_pid()
    os.kill(first, signal.SIGKILL)
    runtime = {"INFER_DEV_RUNTIME_DIR": str(booted.runtime)}

    def answering() -> int:
        shown = cli("status", "--json", **runtime)
        return int(json.loads(shown.stdout)["daemon"]["pid"]) if shown.returncode == 0 else 0

    assert eventually(answering) == booted.daemon_pid() != first
    assert cli("down", **runtime).returncode == 0
    eventually(lambda: booted.output.count("listens on") == 3)
    assert "has left (exit status 0); a new one follows" in booted.output


def test_daemon_that_keeps_dying_is_started_ever_later(boots: Boots) -> None:
    limits = {"first_delay_s": 0.1, "longest_delay_s": 1.6}
    booted = boots("sleep", "1000", parts={"daemon": ["false"], "limits": limits})
    eventually(lambda: booted.output.count("follows in 1.6 s") == 2)
    delays = [line.rpartition("follows ")[2] for line in booted.output.splitlines() if "follows" in line]
    assert delays[:7] == ["at once", "in 0.1 s", "in 0.2 s", "in 0.3 s", "in 0.5 s", "in 0.9 s", "in 1.6 s"]


@EVERYWHERE
def test_daemon_whose_heartbeat_stops_tells_its_stacks_and_is_replaced(boots: Boots, how: str) -> None:
    booted = boots("sleep", "1000", how=how, fake_daemon=["--beats", "3"], parts={"limits": QUICK})
    eventually(lambda: len(booted.noted(word="start")) == 2)
    assert "gives no sign of life for 1 s" in booted.output
    assert "most recent call first" in booted.output
    assert "fake_daemon.py" in booted.output
    assert "has ended (signal SIGKILL); a new one follows at once" in booted.output


def test_stopped_daemon_is_replaced(boots: Boots) -> None:
    booted = boots("sleep", "1000", parts={"limits": QUICK | {"silent_s": 3.0}})
    eventually(lambda: "listens on" in booted.output)
    first = booted.daemon_pid()
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: booted.output.count("listens on") == 2)
    assert not is_alive(first)


def test_daemon_writes_its_stacks_on_usr2_and_goes_on(boots: Boots) -> None:
    booted = boots("sleep", "1000")
    eventually(lambda: "listens on" in booted.output)
    daemon = booted.daemon_pid()
    os.kill(daemon, signal.SIGUSR2)
    eventually(lambda: "most recent call first" in booted.output and "run_daemon" in booted.output)
    assert is_alive(daemon)


def test_suspension_of_everything_kills_nothing(boots: Boots) -> None:
    booted = boots("sleep", "1000", fake_daemon=[], parts={"limits": QUICK | {"silent_s": 3.0}})
    eventually(lambda: len(booted.noted(word="beat")) > 10)  # by now it is watched
    boot, daemon = booted.pid(), booted.daemon_pid()
    for pid in (boot, daemon):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        booted.wait(6)  # the suspension itself
    before = len(booted.noted(word="beat"))
    os.kill(boot, signal.SIGCONT)
    os.kill(daemon, signal.SIGCONT)
    eventually(lambda: len(booted.noted(word="beat")) > before + 20)
    assert booted.daemon_pid() == daemon
    assert len(booted.noted(word="start")) == 1


def test_killed_boot_leaves_the_daemon_at_work(boots: Boots, cli: Cli) -> None:
    booted = boots("sleep", "1000")
    eventually(lambda: "listens on" in booted.output)
    daemon = booted.daemon_pid()
    booted.signal(signal.SIGKILL)
    booted.wait()
    eventually(lambda: "boot is gone; this daemon goes on without it" in booted.output)
    shown = cli("status", "--json", INFER_DEV_RUNTIME_DIR=str(booted.runtime))
    assert json.loads(shown.stdout)["daemon"]["pid"] == daemon


def test_boot_waits_for_a_daemon_that_is_not_its_own(boots: Boots) -> None:
    first = boots("sleep", "1000")
    eventually(lambda: "listens on" in first.output)
    other = first.daemon_pid()
    first.signal(signal.SIGKILL)
    booted = boots("sleep", "1000", env={"INFER_DEV_RUNTIME_DIR": str(first.runtime)})
    eventually(lambda: "another one runs; boot starts one when that has ended" in booted.output)
    os.kill(other, signal.SIGTERM)
    eventually(lambda: "listens on" in booted.output)
    assert booted.output.count("another one runs") == 1
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143


def test_daemon_that_left_because_it_was_asked_to_is_followed_at_once(boots: Boots) -> None:
    booted = boots("sleep", "1000", parts={"limits": {"first_delay_s": 1000, "longest_delay_s": 1000}})
    for count in (1, 2):
        eventually(lambda count=count: booted.output.count("listens on") == count)
        if count == 1:
            os.kill(booted.daemon_pid(), signal.SIGKILL)
    down = [sys.executable, "-m", "infer_dev", "down"]
    subprocess.run(down, env=booted.env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    eventually(lambda: booted.output.count("listens on") == 3)


NOTING = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')"
BOTH_ON = {
    "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT": "True",
    "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
    "AUTO_INFER_LLAMA_CPP_CONFIG": "/rack.toml",
}


def noting(folder: Path, then: str) -> dict[str, list[str]]:
    """A program for the steps that notes what it was called with, and what it does then."""
    return {"program": [sys.executable, "-c", f"{NOTING}\n{then}", str(folder / "called")]}


def test_bundle_then_instances(boots: Boots, tmp_path: Path) -> None:
    booted = boots("sleep", "1000", fake_daemon=[], parts=noting(tmp_path, ""), env=BOTH_ON)
    eventually(lambda: "up --no-wait --keep-going: done" in booted.output)
    assert (tmp_path / "called").read_text() == "bundle install\nup --no-wait --keep-going\n"


def test_instances_wait_for_the_daemon_of_boot_however_late(
    boots: Boots, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = tmp_path / "rack.toml"
    config.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nport = {free_port()}\nmodel = "m"\n'
    )
    late = f"sleep 1; exec {sys.executable} -P -m infer_dev daemon"
    env = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": str(config)}
    booted = boots("sleep", "1000", parts={"daemon": ["sh", "-c", late]}, env=env)
    eventually(lambda: "up --no-wait --keep-going: done" in booted.output)
    assert booted.output.count("listens on") == 1
    assert "instance=a stopped -> starting" in booted.output
    assert not (booted.runtime / "daemon.log").exists()  # where one that `up` starts itself writes
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143


def test_term_while_a_step_runs_spawns_nothing_more(boots: Boots, tmp_path: Path) -> None:
    parts = noting(tmp_path, "import time; time.sleep(1000)")
    booted = boots("sleep", "1000", how="pid-1", fake_daemon=[], parts=parts, env=BOTH_ON)
    eventually(lambda: (tmp_path / "called").exists() and (tmp_path / "called").read_text())
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143
    assert (tmp_path / "called").read_text() == "bundle install\n"
    assert len(booted.noted(word="start")) <= 1


def test_failed_step_is_told_and_takes_nothing_away(boots: Boots, tmp_path: Path) -> None:
    parts = noting(tmp_path, "sys.exit('cannot open the archive' if sys.argv[2] == 'bundle' else 0)")
    booted = boots("sh", "-c", "sleep 1000; exit 1", fake_daemon=[], parts=parts, env=BOTH_ON)
    told = booted.runtime / "boot-error"
    eventually(told.exists)
    assert told.read_text() == (
        "cannot install the llama.cpp bundle: `infer-dev bundle install`: exit status 1\n  cannot open the archive\n"
    )
    eventually(lambda: "up --no-wait --keep-going: done" in booted.output)
    assert booted.wrapper.poll() is None
    booted.signal(signal.SIGTERM)
    booted.wait()
    again = boots("sleep", "1000", fake_daemon=[], env={"INFER_DEV_RUNTIME_DIR": str(booted.runtime)})
    eventually(lambda: not told.exists())
    assert again.wrapper.poll() is None


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"AUTO_INFER_LLAMA_CPP_ON_BOOT": "TRUE"}, "AUTO_INFER_LLAMA_CPP_CONFIG is not; set it to a TOML file"),
        ({"AUTO_INFER_LLAMA_CPP_ON_BOOT": "yes"}, "cannot understand AUTO_INFER_LLAMA_CPP_ON_BOOT='yes'"),
        ({"AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT": "on"}, "cannot understand AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT"),
    ],
)
def test_wrong_switches_are_told_and_start_nothing(
    boots: Boots, tmp_path: Path, env: dict[str, str], told: str
) -> None:
    booted = boots("sh", "-c", "exit 3", parts=noting(tmp_path, ""), fake_daemon=[], env=env)
    assert booted.wait() == 3
    assert told in booted.output
    assert not (tmp_path / "called").exists()


@EVERYWHERE
@pytest.mark.parametrize("stubborn", [False, True])
def test_instances_started_at_boot_end_with_it(
    boots: Boots, tmp_path: Path, free_port: Callable[[], int], how: str, stubborn: bool
) -> None:
    rack = tmp_path / "rack.toml"
    flag = '"--ignore-sigterm"' if stubborn else ""
    rack.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.control]\nlog_dir = "{tmp_path}"\nstop_timeout_s = 100\n'
        f'[instance.server]\nmodel = "/m.gguf"\nextra_args = [{flag}]\n'
        f"[instance.a.server]\nport = {free_port()}\n[instance.b.server]\nport = {free_port()}\n"
    )
    env = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": str(rack)}
    booted = boots("sleep", "1000", how=how, env=env | {"INFER_DEV_STOP_GRACE_S": "2"})
    eventually(lambda: booted.output.count("-> ready") == 2)
    booted.signal(signal.SIGTERM)
    assert booted.wait(30) == 143
    assert booted.processes() == []
    left = subprocess.run(["pgrep", "-f", f"^[^ ]*python3.*{STAND_IN.name}.*{tmp_path}"], check=False)
    assert left.returncode == 1


def test_boot_stays_small(boots: Boots) -> None:
    no_coverage = {name: "" for name in os.environ if name.startswith("COV")}
    booted = boots("sleep", "1000", env=no_coverage)
    eventually(lambda: "listens on" in booted.output)
    rollup = (Path("/proc") / str(booted.pid()) / "smaps_rollup").read_text()
    pss_kib = int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
    assert pss_kib < 10 * 1024
    assert (Path("/proc") / str(booted.pid()) / "status").read_text().count("Threads:\t1\n") == 1


def test_boot_explains_itself_and_refuses_what_it_does_not_know(cli: Cli) -> None:
    assert "Usage: infer-dev boot" in cli("boot", "--help").stdout
    refused = cli("boot", "--fast")
    assert refused.returncode == 2
    assert "put -- before a command that starts so" in refused.stderr
