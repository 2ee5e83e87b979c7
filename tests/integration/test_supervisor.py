"""The supervisor in this process, over real processes: the stand-in shows what a real server cannot be made to."""

import asyncio
import contextlib
import os
import signal
import socket
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infer_dev.check.resolve import Source
from infer_dev.errors import ConfigError, InstanceError, NotFoundError, UnavailableError
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.process.pidfd import group_members
from infer_dev.host.process.stat import life_id
from infer_dev.host.process.sweep import MarkScan
from infer_dev.supervisor.clock import Clock
from infer_dev.supervisor.history import History
from infer_dev.supervisor.order import Gate
from infer_dev.supervisor.reading import Judge
from infer_dev.supervisor.state import StateStore
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import Surroundings
from tests.conftest import STAND_IN

DEADLINE_S = 20.0
FREE_PORT = Callable[[], int]


class Rack:
    """A supervisor under test and one configuration file."""

    def __init__(self, folder: Path, supervisor: Supervisor, port: FREE_PORT) -> None:
        self.folder, self.supervisor, self.port = folder, supervisor, port

    def write(self, body: str, name: str = "rack.toml") -> Source:
        head = f"""
            [master]
            llama_cpp_path = "{STAND_IN}"
            [instance.control]
            log_dir = "{self.folder}"
            backoff_s = 0.05
            backoff_max_s = 0.1
            [instance.server]
            model = "m.gguf"
        """
        path = self.folder / name
        path.write_text(textwrap.dedent(head) + textwrap.dedent(body))
        return Source(path=str(path), overrides=None, search_path="")

    async def up(self, body: str, name: str = "rack.toml") -> Source:
        source = self.write(body, name)
        await self.supervisor.up(source)
        return source

    def one(self, name: str) -> Status:
        return self.supervisor.status([name])[0]

    async def reaches(self, name: str, state: str) -> Status:
        """Wait until an instance is, or has been since the call, in a state."""
        async with asyncio.timeout(DEADLINE_S):
            if self.one(name).state == state:
                return self.one(name)
            async for record in self.supervisor.history.follow(self.supervisor.history.last_id):
                if record.instance == name and record.new == state:
                    return self.one(name)
        raise AssertionError

    def log(self, name: str) -> str:
        return (self.folder / f"llama-server-{name}.log").read_text()

    def states(self, name: str) -> list[str]:
        return [record.new for record in self.supervisor.history.since(0) if record.instance == name]


@asynccontextmanager
async def running_rack(
    folder: Path, port: FREE_PORT, *, gpu_driver: gpu.Driver | None = None, judge: Judge | None = None
) -> AsyncIterator[Rack]:
    around = Surroundings(
        environ=dict(os.environ) | {"LLAMA_ARG_CTX_SIZE": "7", "LLAMA_API_KEY": "s3cret"},
        runtime=str(folder),
        history=History(),
        clock=Clock(),
        store=StateStore(str(folder), life_id()),
        gate=Gate(gpu.are_present),
        scan=MarkScan(str(folder)),
        gpu_driver=gpu_driver,
        probe_interval_s=0.05,
    )
    supervisor = Supervisor(around, judge)
    task = asyncio.create_task(supervisor.run())
    await supervisor.wait_started()
    try:
        yield Rack(folder, supervisor, port)
    finally:
        supervisor.leave()
        async with asyncio.timeout(DEADLINE_S):
            await task
    assert supervisor.has_left
    assert supervisor.status() == [] or not supervisor.has_stopped_all


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT) -> AsyncIterator[Rack]:
    async with running_rack(tmp_path, free_port) as one:
        yield one


async def test_up_starts_what_starts_by_itself(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        [instance.off.control]
        enabled = false
        [instance.waiting.control]
        autostart = false
        [instance.waiting.server]
        port = {rack.port()}
    """)
    ready = await rack.reaches("a", "ready")
    assert ready.pid is not None
    assert os.getsid(ready.pid) == os.getpgid(ready.pid) == ready.pid
    assert ready.ready_after_s is not None
    assert (rack.one("off").state, rack.one("waiting").state) == ("disabled", "stopped")


async def test_environment_is_clean_and_marked(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        gpu_ids = "1,0"
        env = {{ HELLO = "world" }}
        [instance.a.server]
        port = {rack.port()}
    """)
    ready = await rack.reaches("a", "ready")
    environ = Path(f"/proc/{ready.pid}/environ").read_bytes().decode().split("\0")
    assert {"CUDA_VISIBLE_DEVICES=1,0", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "HELLO=world"} <= set(environ)
    assert {"INFER_DEV_INSTANCE=a", f"LD_LIBRARY_PATH={STAND_IN.parent}"} <= set(environ)
    assert not [entry for entry in environ if entry.startswith(("LLAMA_ARG_CTX", "LLAMA_API_KEY"))]
    descriptors = {int(entry.name) for entry in Path(f"/proc/{ready.pid}/fd").iterdir()}
    assert {0, 1, 2} <= descriptors
    assert not [fd for fd in descriptors if _points_into(ready.pid, fd, rack.folder) and fd > 2]
    assert os.readlink(f"/proc/{ready.pid}/fd/0") == "/dev/null"


def _points_into(pid: int | None, fd: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}").startswith(str(folder))
    except OSError:
        return False


async def test_log_holds_both_lives_and_no_secret(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        api_key = "s3cret"
        extra_args = ["--log", "hello from below"]
    """)
    first = await rack.reaches("a", "ready")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    await rack.reaches("a", "starting")
    second = await rack.reaches("a", "ready")
    assert second.pid != first.pid
    assert (second.restarts, second.cause, second.exit_status) == (1, "killed", -9)
    log = rack.log("a")
    assert log.count("==== ") == log.count("\nhello from below\n") == 2
    assert "s3cret" not in log
    assert "--api-key ***" in log


async def test_up_again_touches_nothing(rack: Rack) -> None:
    body = f"""
        [instance.a.server]
        port = {rack.port()}
    """
    source = await rack.up(body)
    before = await rack.reaches("a", "ready")
    result = await rack.supervisor.up(source)
    assert result.changes.unchanged == ("a",)
    assert rack.one("a").pid == before.pid
    assert rack.one("a").state == "ready"


async def test_up_reconciles_by_difference(rack: Rack) -> None:
    ports = [rack.port() for _ in range(3)]
    await rack.up(f"""
        [instance.same.server]
        port = {ports[0]}
        [instance.policy.server]
        port = {ports[1]}
        [instance.gone.server]
        port = {ports[2]}
    """)
    pids = {name: (await rack.reaches(name, "ready")).pid for name in ("same", "policy", "gone")}
    source = rack.write(f"""
        [instance.same.server]
        port = {ports[0]}
        [instance.policy.control]
        stop_timeout_s = 3
        [instance.policy.server]
        port = {ports[1]}
        [instance.new.server]
        port = {ports[2]}
    """)
    changes = (await rack.supervisor.up(source)).changes
    assert (changes.unchanged, changes.updated, changes.new, changes.gone) == (
        ("same",),
        ("policy",),
        ("new",),
        ("gone",),
    )
    await rack.reaches("new", "ready")
    assert (rack.one("same").pid, rack.one("policy").pid) == (pids["same"], pids["policy"])
    with pytest.raises(NotFoundError, match="gone"):
        rack.one("gone")


async def test_two_instances_swap_their_ports(rack: Rack) -> None:
    one, two = rack.port(), rack.port()
    body = """
        [instance.a.server]
        port = {}
        [instance.b.server]
        port = {}
    """
    await rack.up(body.format(one, two))
    await rack.reaches("a", "ready")
    await rack.reaches("b", "ready")
    await rack.up(body.format(two, one))
    assert (await rack.reaches("a", "ready")).port == two
    assert (await rack.reaches("b", "ready")).port == one
    assert "failed" not in rack.states("a") + rack.states("b")


async def test_instance_disabled_in_the_file_is_stopped(rack: Rack) -> None:
    body = f"""
        [instance.a.control]
        enabled = %s
        [instance.a.server]
        port = {rack.port()}
    """
    await rack.up(body % "true")
    await rack.reaches("a", "ready")
    await rack.up(body % "false")
    assert rack.one("a").state == "disabled"
    await rack.supervisor.start(["a"])
    await rack.reaches("a", "ready")
    await rack.up(body % "false")
    assert rack.one("a").state == "ready", "started by hand, and nothing has changed since"


async def test_missing_model_fails_at_once_with_its_lines(rack: Rack) -> None:
    line = "gguf_init_from_file: failed to open GGUF file '/x.gguf' (No such file or directory)"
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--crash-on-start", "--log", "{line}"]
    """)
    failed = await rack.reaches("a", "failed")
    assert (failed.cause, failed.exit_status, failed.restarts) == ("model-not-found", 1, 0)
    assert failed.log_tail == (line,)
    assert failed.pid is None


async def test_crash_loop_is_given_up_and_others_go_on(rack: Rack) -> None:
    await rack.up(f"""
        [instance.bad.control]
        max_restarts = 2
        [instance.bad.server]
        port = {rack.port()}
        extra_args = ["--crash-on-start", "--exit-code", "3"]
        [instance.good.server]
        port = {rack.port()}
    """)
    failed = await rack.reaches("bad", "failed")
    assert (failed.restarts, failed.cause, failed.exit_status) == (2, "unknown", 3)
    assert "given up after 2 restarts" in failed.detail
    assert rack.states("bad") == ["starting", "backoff", "starting", "backoff", "starting", "failed"]
    assert (await rack.reaches("good", "ready")).restarts == 0


async def test_starts_that_fail_at_first_come_to_ready(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--crash-until", "{rack.folder}/count", "2"]
    """)
    await rack.reaches("a", "backoff")
    assert (await rack.reaches("a", "ready")).restarts == 2


async def test_stop_kills_a_child_that_ignores_sigterm(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        stop_timeout_s = 0.2
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--ignore-sigterm"]
    """)
    pid = (await rack.reaches("a", "ready")).pid
    await rack.supervisor.stop(["a"])
    assert rack.one("a").state == "stopped"
    assert not Path(f"/proc/{pid}").exists()


async def test_start_after_that_is_taken_out_of_the_file_holds_nobody_any_more(rack: Rack) -> None:
    instances = f"""
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--hang"]
        [instance.b.server]
        port = {rack.port()}
    """
    await rack.up(f"""{instances}
        [instance.b.control]
        start_after = ["a"]
    """)
    assert rack.one("b").note == "waits for a"
    rack.write(instances)
    await rack.supervisor.reload()
    await rack.reaches("b", "ready")
    assert rack.one("a").state == "starting"


class BrokenDriver:
    """A GPU driver whose library cannot be imported."""

    def use(self, gpu: str) -> gpu.Use:
        raise ModuleNotFoundError(gpu)

    def all(self) -> tuple[str, ...]:
        raise ModuleNotFoundError


async def test_driver_that_fails_in_an_unknown_way_ends_nobody(tmp_path: Path, free_port: FREE_PORT) -> None:
    async with running_rack(tmp_path, free_port, gpu_driver=BrokenDriver()) as rack:
        await rack.up(f"""
            [instance.a.server]
            port = {free_port()}
            [instance.b.server]
            port = {free_port()}
        """)
        other = await rack.reaches("b", "ready")
        old = (await rack.reaches("a", "ready")).pid
        assert old is not None
        os.kill(old, signal.SIGKILL)
        await rack.reaches("a", "stopping")
        assert (await rack.reaches("a", "ready")).pid != old
        assert rack.one("b").pid == other.pid


async def test_stop_ends_the_whole_group(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        stop_timeout_s = 0.2
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--spawn-child"]
    """)
    pid = (await rack.reaches("a", "ready")).pid
    assert pid is not None
    await rack.supervisor.stop(["a"])
    assert group_members(pid) == []


async def test_stopped_process_is_continued_to_end(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
    """)
    pid = (await rack.reaches("a", "ready")).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await rack.supervisor.stop(["a"])
    assert rack.states("a")[-2:] == ["stopping", "stopped"]


async def test_second_leave_kills(tmp_path: Path, free_port: FREE_PORT) -> None:
    async with running_rack(tmp_path, free_port) as rack:
        await rack.up(f"""
            [instance.a.control]
            stop_timeout_s = 600
            [instance.a.server]
            port = {rack.port()}
            extra_args = ["--ignore-sigterm"]
        """)
        await rack.reaches("a", "ready")
        rack.supervisor.leave()
        await rack.reaches("a", "stopping")
        with pytest.raises(UnavailableError, match="stopping"):
            await rack.supervisor.start(["a"])
        rack.supervisor.leave()


async def test_loading_longer_than_allowed_is_a_failure(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        ready_timeout_s = 0.3
        restart = "never"
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--ready-after", "600"]
    """)
    failed = await rack.reaches("a", "failed")
    assert (failed.cause, failed.detail) == ("ready-timeout", "not ready after 0.3 s")


async def test_failing_probes_degrade_and_passing_ones_recover(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--fail-health-after", "1.0"]
    """)
    await rack.reaches("a", "ready")
    degraded = await rack.reaches("a", "degraded")
    assert (degraded.cause, degraded.detail) == ("wedged", "/health: HTTP 500")


async def test_the_records_of_a_degraded_spell_tell_what_it_was(rack: Rack) -> None:
    faults = rack.folder / "faults"
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--faults", "{faults}"]
    """)
    await rack.reaches("a", "ready")
    faults.write_text("health-500")
    await rack.reaches("a", "degraded")
    faults.unlink()
    await rack.reaches("a", "ready")
    fell, rose = rack.supervisor.history.since(0)[-2:]
    assert (fell.old, fell.new, fell.detail) == ("ready", "degraded", "/health: HTTP 500")
    assert (rose.old, rose.new, rose.detail) == ("degraded", "ready", "no longer: /health: HTTP 500")


async def test_port_of_a_stranger_is_refused_with_its_pid(rack: Rack) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"port {port} is taken by .*\(pid {os.getpid()}\)"):
            await rack.up(f"""
                [instance.a.server]
                port = {port}
            """)
        assert rack.supervisor.status() == []


async def test_port_taken_at_a_start_by_hand_fails_that_instance(rack: Rack) -> None:
    port = rack.port()
    await rack.up(f"""
        [instance.a.control]
        autostart = false
        [instance.a.server]
        port = {port}
    """)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        await rack.supervisor.start(["a"])
        failed = rack.one("a")
        assert (failed.state, failed.cause) == ("failed", "port-in-use")
        assert str(os.getpid()) in failed.detail


async def test_binary_gone_at_a_start_fails_with_the_reason(rack: Rack) -> None:
    copy = rack.folder / "llama-server"
    copy.symlink_to(STAND_IN)
    source = rack.write(f"""
        [instance.a.control]
        autostart = false
        [instance.a.server]
        port = {rack.port()}
    """)
    text = Path(source.path).read_text()
    Path(source.path).write_text(text.replace(str(STAND_IN), str(copy)))
    await rack.supervisor.up(source)
    copy.unlink()
    await rack.supervisor.start(["a"])
    failed = rack.one("a")
    assert (failed.state, failed.cause) == ("failed", "binary-unusable")
    assert str(copy) in failed.detail


async def test_missing_folder_and_overlong_argument_fail_with_their_own_reasons(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        cwd = "nowhere"
        [instance.a.server]
        port = {rack.port()}
        [instance.b.server]
        port = {rack.port()}
        extra_args = ["{"x" * 200_000}"]
    """)
    assert (rack.one("a").state, rack.one("a").cause) == ("failed", "bad-argument")
    assert rack.one("a").detail == f"cannot enter {rack.folder}/nowhere: No such file or directory"
    assert (rack.one("b").state, rack.one("b").cause) == ("failed", "bad-argument")
    assert "128 KiB" in rack.one("b").detail


async def test_bug_in_one_instance_leaves_the_others_alone(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"""
        [instance.a.server]
        port = {rack.port()}
        [instance.b.server]
        port = {rack.port()}
    """
    await rack.up(body)
    await rack.reaches("a", "ready")
    ready = await rack.reaches("b", "ready")
    monkeypatch.setattr("infer_dev.supervisor.spawner.redacted", lambda _: 1 / 0)
    await rack.supervisor.restart(["a"])
    failed = await rack.reaches("a", "failed")
    assert failed.detail == "internal error: see the daemon's log"
    assert (rack.one("b").state, rack.one("b").pid) == ("ready", ready.pid)


async def test_log_folder_gone_at_a_start_fails_with_the_reason(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        autostart = false
        log_file = "{rack.folder}/logs/a.log"
        [instance.a.server]
        port = {rack.port()}
    """)
    (rack.folder / "logs").write_text("a file where a folder should be")
    await rack.supervisor.start(["a"])
    assert (rack.one("a").state, rack.one("a").cause) == ("failed", "log-unwritable")


async def test_lack_of_resources_is_waited_out(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, refusals = os.pipe, iter([BlockingIOError(11, "Resource temporarily unavailable")] * 2)

    def scarce() -> tuple[int, int]:
        if refusal := next(refusals, None):
            raise refusal
        return pipe()

    monkeypatch.setattr(os, "pipe", scarce)  # the first of what a start takes
    await rack.up(f"""
        [instance.a.server]
        port = {rack.port()}
    """)
    assert (await rack.reaches("a", "ready")).restarts == 0
    assert rack.states("a").count("backoff") == 2


async def test_stop_during_backoff_takes_its_timer_away(rack: Rack) -> None:
    source = await rack.up(f"""
        [instance.a.control]
        backoff_s = 600
        backoff_max_s = 600
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--crash-on-start"]
    """)
    waiting = await rack.reaches("a", "backoff")
    assert waiting.due_in_s is not None
    assert waiting.due_in_s > 500
    await rack.supervisor.stop(["a"])
    assert rack.one("a").state == "stopped"
    assert await rack.supervisor.down(source.path) == ("a",)


async def test_members_of_a_group_never_run_together(rack: Rack) -> None:
    port = rack.port()
    body = f"""
        [instance.control]
        log_dir = "{rack.folder}"
        group = "g"
        [instance.server]
        model = "m.gguf"
        port = {port}
        [instance.a]
        [instance.b.control]
        autostart = false
    """
    path = rack.folder / "group.toml"
    path.write_text(f'[master]\nllama_cpp_path = "{STAND_IN}"\n' + textwrap.dedent(body))
    source = Source(path=str(path), overrides=None, search_path="")
    await rack.supervisor.up(source)
    await rack.reaches("a", "ready")
    with pytest.raises(InstanceError, match="a of the same group 'g' runs"):
        await rack.supervisor.start(["b"])
    with pytest.raises(InstanceError, match="cannot restart b"):
        await rack.supervisor.restart(["b"])
    await rack.supervisor.stop(["a"])
    both = await asyncio.gather(rack.supervisor.start(["b"]), rack.supervisor.start(["a"]), return_exceptions=True)
    assert [type(one) for one in both] == [type(None), InstanceError]
    await rack.reaches("b", "ready")
    again = await rack.supervisor.up(source)
    assert again.waiting == (), "up does not wait for what it leaves stopped"
    assert (rack.one("a").state, rack.one("b").state) == ("stopped", "ready"), "up leaves the choice made by hand"


async def test_name_of_another_file_is_refused(rack: Rack) -> None:
    port = rack.port()
    await rack.up(f"[instance.a.server]\nport = {port}")
    with pytest.raises(ConfigError, match="the name is taken by an instance of .*rack.toml"):
        await rack.up(f"[instance.a.server]\nport = {rack.port()}", "other.toml")
    with pytest.raises(ConfigError, match=f"port {port} is also that of instance a of .*rack.toml"):
        await rack.up(f"[instance.b.server]\nport = {port}", "other.toml")
    await rack.up(f"[instance.b.server]\nport = {rack.port()}", "other.toml")
    await rack.reaches("b", "ready")
    assert sorted(Path(path).name for path in rack.supervisor.sources) == ["other.toml", "rack.toml"]
    with pytest.raises(NotFoundError, match=r"nothing.toml"):
        await rack.supervisor.down(str(rack.folder / "nothing.toml"))


async def test_bad_file_changes_nothing(rack: Rack) -> None:
    source = await rack.up(f"[instance.a.server]\nport = {rack.port()}")
    pid = (await rack.reaches("a", "ready")).pid
    Path(source.path).write_text("[instance.a.server\n")
    with pytest.raises(ConfigError):
        await rack.supervisor.up(source)
    with pytest.raises(ConfigError):
        await rack.supervisor.reload()
    rack.supervisor.want_reload()
    await asyncio.sleep(0)
    assert (rack.one("a").state, rack.one("a").pid) == ("ready", pid)


async def test_start_beside_one_on_the_same_port_is_refused(rack: Rack) -> None:
    port = rack.port()
    await rack.up(f"""
        [instance.a.server]
        port = {port}
        [instance.b.control]
        enabled = false
        [instance.b.server]
        port = {port}
    """)
    await rack.reaches("a", "ready")
    with pytest.raises(InstanceError, match="cannot start b: a on the same port runs") as told:
        await rack.supervisor.start(["b"])
    assert told.value.hint == "switch to it: infer-dev switch b; or stop a first"
    await rack.supervisor.stop(["a"])
    await rack.supervisor.start(["b"])
    await rack.reaches("b", "ready")


async def test_storm_of_reloads_ends_with_the_last_file(rack: Rack) -> None:
    port = rack.port()
    await rack.up(f"[instance.a.server]\nport = {port}")
    await rack.reaches("a", "ready")
    for size in range(1, 60):
        rack.write(f"[instance.a.server]\nport = {port}\nctx_size = {size}")
        rack.supervisor.want_reload()
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        while "--ctx-size 59" not in rack.log("a") or rack.one("a").state != "ready":
            await asyncio.sleep(0.01)
    assert rack.states("a").count("stopping") < 59


async def test_reload_takes_over_what_changed(rack: Rack) -> None:
    port = rack.port()
    source = await rack.up(f"[instance.a.server]\nport = {port}")
    pid = (await rack.reaches("a", "ready")).pid
    rack.write(f"[instance.a.server]\nport = {port}\nctx_size = 512")
    await rack.supervisor.reload()
    assert (await rack.reaches("a", "ready")).pid != pid
    assert source.path in rack.supervisor.sources


async def test_disabled_file_starts_nothing(rack: Rack) -> None:
    path = rack.folder / "off.toml"
    path.write_text('[master]\nenable = false\nllama_cpp_path = "/nowhere"\n[instance.a.server]\nmodel = "m"\n')
    result = await rack.supervisor.up(Source(path=str(path), overrides=None, search_path=""))
    assert (result.enabled, result.waiting) == (False, ())
    assert rack.supervisor.status() == []


async def test_restart_by_hand_gives_a_new_process(rack: Rack) -> None:
    await rack.up(f"[instance.a.server]\nport = {rack.port()}")
    pid = (await rack.reaches("a", "ready")).pid
    await rack.supervisor.restart(["a"])
    again = await rack.reaches("a", "ready")
    assert again.pid != pid
    assert (again.restarts, again.cause) == (0, None)


async def test_posting_to_a_retired_instance_does_not_hang(rack: Rack) -> None:
    await rack.up(f"[instance.a.server]\nport = {rack.port()}")
    await rack.reaches("a", "ready")
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(rack.supervisor.down(str(rack.folder / "rack.toml")), rack.supervisor.stop(["a"]))


async def test_leaving_while_an_up_replaces_has_one_deadline(tmp_path: Path, free_port: FREE_PORT) -> None:
    ports = free_port(), free_port()
    body = """
        [instance.a.control]
        stop_timeout_s = 2
        [instance.a.server]
        port = %d
        extra_args = ["--ignore-sigterm"%s]
        [instance.b.control]
        stop_timeout_s = 2
        [instance.b.server]
        port = %d
        extra_args = ["--ignore-sigterm"]
    """
    async with running_rack(tmp_path, free_port) as rack:
        await rack.up(body % (ports[0], "", ports[1]))
        await rack.reaches("a", "ready")
        await rack.reaches("b", "ready")
        source = rack.write(body % (ports[0], ', "--other"', ports[1]))
        replacing = asyncio.create_task(rack.supervisor.up(source))
        await rack.reaches("a", "stopping")
        rack.supervisor.leave()
        await rack.reaches("b", "stopping")
        assert rack.one("a").state == "stopping", "b does not wait for a"
        with pytest.raises(UnavailableError, match="stopping"):
            await replacing


async def test_end_of_a_leader_is_seen_without_a_descriptor(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce(_: int) -> list[int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("infer_dev.host.process.pidfd.group_members", scarce)
    await rack.up(f"[instance.a.server]\nport = {rack.port()}")
    pid = (await rack.reaches("a", "ready")).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await rack.reaches("a", "starting")
    assert (await rack.reaches("a", "ready")).cause == "killed"


async def test_stop_overtaken_by_a_start_says_so(rack: Rack) -> None:
    await rack.up(f"""
        [instance.a.control]
        stop_timeout_s = 0.5
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--ignore-sigterm"]
    """)
    await rack.reaches("a", "ready")
    stopping = asyncio.create_task(rack.supervisor.stop(["a"]))
    await rack.reaches("a", "stopping")
    await rack.supervisor.start(["a"])
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(InstanceError, match="cannot stop a: started again meanwhile"):
            await stopping
    await rack.reaches("a", "ready")


async def test_up_starts_what_is_still_stopping(rack: Rack) -> None:
    source = await rack.up(f"""
        [instance.a.control]
        stop_timeout_s = 0.5
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--ignore-sigterm"]
    """)
    await rack.reaches("a", "ready")
    stopping = asyncio.create_task(rack.supervisor.stop(["a"]))
    await rack.reaches("a", "stopping")
    assert (await rack.supervisor.up(source)).started == ("a",)
    with contextlib.suppress(InstanceError):  # whether it sees the moment at rest is chance
        await stopping
    await rack.reaches("a", "ready")


async def test_reload_leaves_what_is_stopping_stopped_though_it_has_changed(rack: Rack) -> None:
    body = f"""
        [instance.a.control]
        stop_timeout_s = 0.5
        [instance.a.server]
        port = {rack.port()}
        extra_args = ["--ignore-sigterm", "--alias", "%s"]
    """
    source = await rack.up(body % "one")
    await rack.reaches("a", "ready")
    stopping = asyncio.create_task(rack.supervisor.stop(["a"]))
    await rack.reaches("a", "stopping")
    rack.write(body % "two")
    await rack.supervisor.reload([source.path])
    await stopping
    assert rack.one("a").state == "stopped"
