"""The verified switch, in this process: real servers where they can show it, stand-ins for their faults."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.verdict import Verdict
from infer_dev.config.load import ConfigFile
from infer_dev.config.place import Place
from infer_dev.errors import InstanceError, NotFoundError, SwitchInProgressError, UnavailableError, UsageError
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.process.stat import life_id
from infer_dev.plan.model import Endpoint, Plan
from infer_dev.supervisor.switch.receipt import Fault, Note, Phase, Wish, note_to_json
from tests.conftest import Parts, eventually
from tests.parts.switch_rig import DEADLINE_S, Rig, running_rig

PORT = Callable[[], int]
CLIENTS = 20
TOKENS = 200
FORWARD = ["preflight", "drain", "stop", "free", "start", "ready", "proof"]


async def stream(port: int) -> int:
    """A completion read to its end: of how many tokens its last event tells; 0 if that did not come."""
    body = json.dumps({"prompt": "a", "n_predict": TOKENS, "ignore_eos": True, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /completion HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
    writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    tokens = 0
    async for line in reader:
        if line.startswith(b"data:"):
            event = json.loads(line[5:])
            tokens = int(event["tokens_predicted"]) if event["stop"] else 0
    writer.close()
    return tokens


@pytest.mark.real
async def test_switch_there_and_back_cuts_none_of_twenty_streams(
    parts: Parts, tmp_path: Path, free_port: PORT
) -> None:
    port = free_port()
    real = f'model = "{parts.model}"\nport = {port}\ncontrol.drain_timeout_s = 60\nextra_args = ["--parallel", "4"]'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": f'{real}\nalias = "first"', "b": real}, server=parts.server)
        async with asyncio.timeout(DEADLINE_S):
            streams = [asyncio.create_task(stream(port)) for _ in range(CLIENTS)]
            while b'"is_processing":true' not in await ask(port, "/slots"):
                await asyncio.sleep(0.01)
            there = await rig.switch("b")
            ends = await asyncio.gather(*streams)
            new = await stream(port)
        back = await rig.switch("first")
        assert [*ends, new] == [TOKENS] * (CLIENTS + 1)
        assert (there.ok, there.changed, there.old, there.new) == (True, True, "a", "b")
        assert [phase for phase, _ in there.phases] == FORWARD
        assert there.completion
        assert (back.ok, back.old, back.new, rig.running()) == (True, "b", "a", ["a"])
        assert rig.phases() == [*FORWARD, "done"] * 2


@pytest.mark.real
async def test_server_that_only_embeds_is_proven_by_an_embedding(
    parts: Parts, tmp_path: Path, free_port: PORT
) -> None:
    real = f'model = "{parts.model}"\nport = {free_port()}'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": real, "b": f'{real}\nextra_args = ["--embeddings"]'}, server=parts.server)
        receipt = await rig.switch("b")
        assert (receipt.ok, receipt.completion, rig.running()) == (True, None, ["b"])
        log = tmp_path / "llama-server-b.log"  # of a completion it would have died
        eventually(lambda: "stop processing" in log.read_text())


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


FAULTS = {
    "no model file": ('model = "/nowhere/x.gguf"', "preflight", "model-not-found"),
    "crashes on load": ('extra_args = ["--crash-on-start", "--log", "who knows"]', "ready", "unknown"),
    "crashes while loading": ('extra_args = ["--ready-after", "9", "--crash-after", "0.2"]', "ready", "unknown"),
    "hangs": ('extra_args = ["--hang"]\ncontrol.ready_timeout_s = 0.5', "ready", "ready-timeout"),
    "completions fail": ('extra_args = ["--completions-500"]', "proof", "wedged"),
    "completions hang": ('extra_args = ["--completions-hang"]', "proof", "wedged"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_old_one_serves_again_after(fault: str, tmp_path: Path, free_port: PORT) -> None:
    body, phase, cause = FAULTS[fault]
    port = free_port()
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": f"port = {port}", "b": f"port = {port}\n{body}"})
        pid = rig.one("a").pid
        receipt = await rig.switch("b", proof_timeout_s=0.5)
        assert receipt.fault is not None
        assert (receipt.ok, receipt.changed) == (False, False)
        assert (receipt.fault.phase, receipt.fault.cause) == (phase, cause)
        assert [(one.name, one.serves) for one in receipt.restored] == [("a", True)]
        assert (rig.one("a").state, rig.one("b").state, rig.running()) == ("ready", "stopped", ["a"])
        assert (rig.one("a").pid == pid) == (phase == "preflight")  # a switch that cannot work changes nothing
        assert rig.phases()[-1] == "failed"
        assert (rig.phases()[-2] == "rollback") == (phase != "preflight")
        if fault == "crashes on load":
            assert receipt.fault.log_tail == ("who knows",)
        assert receipt.error is not None
        assert receipt.error.endswith("a still serves" if phase == "preflight" else "a serves again")


@pytest.mark.real
async def test_old_one_serves_again_after_a_model_that_cannot_be_read(
    parts: Parts, tmp_path: Path, free_port: PORT
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(Path(parts.model).read_bytes()[:5000])
    async with running_rig(tmp_path) as rig:
        port = free_port()
        await rig.up(
            {"a": f'model = "{parts.model}"\nport = {port}', "b": f'model = "{bad}"\nport = {port}'},
            server=parts.server,
        )
        receipt = await rig.switch("b")
        assert receipt.fault is not None
        assert receipt.fault.cause == "model-unreadable"
        assert receipt.fault.log_tail
        assert (receipt.restored[0].serves, rig.running()) == (True, ["a"])


@pytest.mark.parametrize("when", ["preflight", "drain", "stop"])
async def test_port_that_a_stranger_takes_lets_the_old_one_serve(when: str, tmp_path: Path, free_port: PORT) -> None:
    port = free_port()
    faults = tmp_path / "faults"
    faults.write_text("slots-busy")
    a = f"""
        port = {free_port()}
        extra_args = ["--faults", "{faults}", "--ignore-sigterm"]
        control.drain_timeout_s = 60
        control.stop_timeout_s = 0.5
    """
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": a, "b": f"port = {port}"})
        pid = rig.one("a").pid
        with socket.socket() as stranger:
            if when == "preflight":
                take(stranger, port)
            job = rig.switcher.ask("b")
            if when == "drain":
                await rig.reaches_phase("drain")
                take(stranger, port)
            faults.write_text("")
            if when == "stop":
                await rig.reaches_phase("stop")
                take(stranger, port)
            async with asyncio.timeout(DEADLINE_S):
                receipt = await job.result()
        assert receipt.fault is not None
        assert receipt.fault.cause == "port-in-use"
        assert receipt.fault.phase == ("ready" if when == "stop" else when)
        assert (receipt.restored[0].serves, rig.running()) == (True, ["a"])
        assert (rig.one("a").pid == pid) == (when != "stop")


def take(stranger: socket.socket, port: int) -> None:
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stranger.bind(("127.0.0.1", port))
    stranger.listen()


async def test_old_one_that_does_not_come_back_is_told(tmp_path: Path, free_port: PORT) -> None:
    port = free_port()
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": f"port = {port}", "b": f"port = {port}"})
        job = rig.switcher.ask("b")
        await rig.reaches_phase("free")
        with socket.socket() as stranger:
            take(stranger, port)
            async with asyncio.timeout(DEADLINE_S):
                receipt = await job.result()
        assert receipt.fault is not None
        assert [(one.name, one.serves, one.state) for one in receipt.restored] == [("a", False, "failed")]
        assert receipt.error is not None
        assert "a does not serve either, it is failed: " in receipt.error
        assert rig.running() == []


class Driver:
    """A GPU driver that gives memory back step by step, for as long as `falls`."""

    def __init__(self) -> None:
        self.falls, self.used, self.looks = False, 10**12, 0

    def use(self, _: str) -> gpu.Use:
        self.looks += 1
        self.used -= 10**9 if self.falls else 0
        return gpu.Use(used_bytes=self.used, by_pid={})

    def all(self) -> tuple[str, ...]:
        return ("0",)


async def test_new_one_is_not_started_before_the_gpu_is_free(tmp_path: Path, free_port: PORT) -> None:
    driver = Driver()
    async with running_rig(tmp_path, gpu_driver=driver) as rig:
        await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}"})
        driver.falls = True
        job = rig.switcher.ask("b")
        async with asyncio.timeout(DEADLINE_S):
            while driver.looks < 10:
                assert "start" not in rig.phases()
                await asyncio.sleep(0.005)
            driver.falls = False
            receipt = await job.result()
        assert receipt.ok
        assert [phase for phase, _ in receipt.phases] == FORWARD


async def test_second_switch_is_refused_or_waits(tmp_path: Path, free_port: PORT) -> None:
    port, go = free_port(), tmp_path / "go"
    async with running_rig(tmp_path) as rig:
        await rig.up(
            {
                "a": f"port = {port}",
                "b": f'port = {port}\nextra_args = ["--ready-when", "{go}"]',
                "c": f'port = {port}\nalias = "third"',
            }
        )
        first = rig.switcher.ask("b")
        await rig.reaches_phase("ready")
        with pytest.raises(
            SwitchInProgressError, match="cannot switch to c: a switch from a to b is under way, in ph"
        ):
            rig.switcher.ask("c")
        second = rig.switcher.ask("third", wait=True)
        status = rig.switcher.status() or {}
        assert (status["from"], status["to"], status["phase"], status["waiting"]) == ("a", "b", "ready", ["c"])
        assert rig.running() == ["b"]
        go.touch()
        async with asyncio.timeout(DEADLINE_S):
            receipts = [await first.result(), await second.result()]
        assert [(one.old, one.new, one.ok) for one in receipts] == [("a", "b", True), ("b", "c", True)]
        assert rig.running() == ["c"]
        assert rig.switcher.status() == receipts[1].to_json()


async def test_switch_to_what_runs_changes_nothing(tmp_path: Path, free_port: PORT) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}"})
        pid, last_id = rig.one("a").pid, rig.around.history.last_id
        receipt = await rig.switch("a")
        assert (receipt.ok, receipt.changed, receipt.phases) == (True, False, ())
        assert (rig.one("a").pid, rig.around.history.last_id) == (pid, last_id)


async def test_switch_to_one_alone_starts_and_proves_it(tmp_path: Path, free_port: PORT) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}"}, group="")
        receipt = await rig.switch("b")
        assert (receipt.ok, receipt.old, receipt.completion) == (True, None, "stand-in")
        assert [phase for phase, _ in receipt.phases] == ["preflight", "start", "ready", "proof"]
        assert rig.running() == ["a", "b"]


async def test_switch_without_a_group_is_among_those_on_its_port(tmp_path: Path, free_port: PORT) -> None:
    port = free_port()
    bodies = {"a": f"port = {port}", "other": f"port = {free_port()}\ncontrol.autostart = true"}
    bodies["b"] = f'port = {port}\nhost = "0.0.0.0"\ncontrol.enabled = false'
    async with running_rig(tmp_path) as rig:
        await rig.up(bodies, group="")
        await rig.reaches("other", "ready")
        receipt = await rig.switch("b")
        assert (receipt.ok, receipt.old) == (True, "a")
        assert rig.running() == ["other", "b"]


async def test_name_that_nobody_has_is_refused(tmp_path: Path, free_port: PORT) -> None:
    bodies = {name: f'port = {free_port()}\nalias = "same"' for name in ("glm-air", "qwen")}
    async with running_rig(tmp_path) as rig:
        await rig.up(bodies)
        with pytest.raises(NotFoundError) as unknown:
            rig.switcher.ask("glm-iar")
        assert unknown.value.hint == "did you mean 'glm-air'? instances: glm-air, qwen"
        with pytest.raises(UsageError, match="'same' is the alias of glm-air, qwen"):
            rig.switcher.ask("same")


async def test_what_a_check_finds_refuses_the_switch(tmp_path: Path, free_port: PORT) -> None:
    asked: list[tuple[list[str], list[bool]]] = []

    def judge(_: ConfigFile, __: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None]) -> Verdict:
        asked.append((list(names), [pid is not None for pid in running.values()]))
        errors = [("out-of-memory-gpu", "too large"), ("bad-argument", "no such flag")]
        place = Place("rack.toml", 1, "x")
        return Verdict(
            tuple(
                Finding(level=Level.ERROR, code=code, instance="b", place=place, message=message, hint="correct it")
                for code, message in errors
            )
        )

    async with running_rig(tmp_path, judge=judge) as rig:
        await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}"})
        receipt = await rig.switch("b")
        assert asked == [(["b"], [True])]
        fault = Fault(phase="preflight", detail="no such flag", hint="correct it", cause="bad-argument")
        assert (receipt.fault, rig.running()) == (fault, ["a"])


async def test_new_one_that_somebody_stops_lets_the_old_one_serve(tmp_path: Path, free_port: PORT) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.up(
            {"a": f"port = {free_port()}", "b": f'port = {free_port()}\nextra_args = ["--ready-when", "/nowhere"]'}
        )
        job = rig.switcher.ask("b")
        await rig.reaches_phase("ready")
        with pytest.raises(InstanceError):
            await rig.supervisor.start(["a"])
        await rig.supervisor.stop(["b"])
        async with asyncio.timeout(DEADLINE_S):
            receipt = await job.result()
        assert receipt.fault is not None
        assert receipt.fault.detail == "b was stopped by somebody else meanwhile"
        assert (receipt.restored[0].serves, rig.running()) == (True, ["a"])


async def test_old_one_that_somebody_starts_again_stays(tmp_path: Path, free_port: PORT) -> None:
    a = f'port = {free_port()}\nextra_args = ["--ignore-sigterm"]\ncontrol.stop_timeout_s = 0.5'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": a, "b": f"port = {free_port()}"})
        job = rig.switcher.ask("b")
        await rig.reaches("a", "stopping")
        await rig.supervisor.start(["a"])
        async with asyncio.timeout(DEADLINE_S):
            receipt = await job.result()
        assert receipt.fault is not None
        assert receipt.fault.phase == "stop"
        assert (receipt.restored[0].serves, rig.running()) == (True, ["a"])


async def test_instances_that_are_taken_down_meanwhile_end_the_switch(tmp_path: Path, free_port: PORT) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.up(
            {"a": f"port = {free_port()}", "b": f'port = {free_port()}\nextra_args = ["--ready-when", "/nowhere"]'}
        )
        job = rig.switcher.ask("b")
        await rig.reaches_phase("ready")
        await rig.supervisor.down(str(tmp_path / "rack.toml"))
        async with asyncio.timeout(DEADLINE_S):
            receipt = await job.result()
        assert (receipt.ok, rig.supervisor.status()) == (False, [])
        assert [(one.name, one.serves, one.state) for one in receipt.restored] == [("a", False, "gone")]


async def test_daemon_that_is_told_to_leave_stops_both(tmp_path: Path, free_port: PORT) -> None:
    async with running_rig(tmp_path) as rig:
        await rig.up(
            {"a": f"port = {free_port()}", "b": f'port = {free_port()}\nextra_args = ["--ready-when", "/nowhere"]'}
        )
        job = rig.switcher.ask("b")
        await rig.reaches_phase("ready")
        rig.supervisor.leave()
        async with asyncio.timeout(DEADLINE_S):
            await rig.supervisor.wait_left()
            with pytest.raises(UnavailableError, match="the daemon leaves"):
                await job.result()
        starts = [one.instance for one in rig.around.history.since(0) if one.new == "starting"]
        assert starts == ["a", "b"]


def left(phase: Phase, fault: Fault | None = None) -> str:
    """What a daemon that died in a phase has left."""
    note = Note(
        id=1,
        time="2026-01-01T00:00:00.000+00:00",
        wish=Wish(target="b"),
        began=1.0,
        phase=phase,
        phase_began=1.0,
        leaving=("a",),
        restore=("a",),
        fault=fault,
    )
    return json.dumps({"format": 1, "life_id": life_id(), "note": note_to_json(note), "receipt": None})


async def take_up(rig: Rig, free_port: PORT, *, running: str | None) -> None:
    """Bring the instances of a switch as a daemon left them: at most one runs."""
    await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}"})
    if running != "a":
        await rig.supervisor.stop(["a"])
    if running == "b":
        await rig.supervisor.start(["b"])


@pytest.mark.parametrize(
    ("phase", "running", "runs_then"),
    [
        (Phase.START, None, "a"),
        (Phase.START, "b", "b"),
        (Phase.PROOF, None, "a"),
        (Phase.ROLLBACK, "a", "a"),
    ],
)
async def test_switch_that_a_daemon_left_is_finished(
    phase: Phase, running: str | None, runs_then: str, tmp_path: Path, free_port: PORT
) -> None:
    fault = Fault(phase="proof", detail="b was no good") if phase is Phase.ROLLBACK else None
    async with running_rig(tmp_path) as before:
        await take_up(before, free_port, running=running)
        (tmp_path / "switch.json").write_text(left(phase, fault))
        before.supervisor.hand_over()
        async with asyncio.timeout(DEADLINE_S):
            await before.supervisor.wait_left()
        async with running_rig(tmp_path) as rig:
            async with asyncio.timeout(DEADLINE_S):
                while "ok" not in (rig.switcher.status() or {}):
                    await asyncio.sleep(0.01)
            status = rig.switcher.status() or {}
            assert rig.running() == [runs_then]
            assert rig.one(runs_then).state == "ready"
            assert (status["to"], status["ok"], status["changed"]) == ("b", runs_then == "b", runs_then == "b")
            if fault is not None:
                assert status["error"] == "cannot switch to b: b was no good (phase proof); a serves again"


async def test_note_of_a_switch_whose_instances_are_gone_is_closed(tmp_path: Path) -> None:
    async with running_rig(tmp_path, text=left(Phase.READY)) as rig:
        async with asyncio.timeout(DEADLINE_S):
            while "ok" not in (rig.switcher.status() or {}):
                await asyncio.sleep(0.01)
        status = rig.switcher.status() or {}
        assert (status["ok"], status["failed_phase"]) == (False, "ready")
        assert "its instances were taken down" in status["error"]
