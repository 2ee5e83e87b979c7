"""A switch that is called off: before anything is changed it ends there, after that it goes on."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from infer_dev.errors import NotFoundError, SwitchFailedError
from infer_dev.supervisor.switch.receipt import Receipt
from infer_dev.supervisor.switch.switcher import Job
from tests.integration.test_supervisor_check import Opinion
from tests.parts.switch_rig import DEADLINE_S, running_rig

PORT = Callable[[], int]


async def receipt_of(job: Job) -> Receipt:
    async with asyncio.timeout(DEADLINE_S):
        return await job.result()


@pytest.mark.parametrize("by_id", [True, False])
async def test_switch_called_off_while_it_drains_changes_nothing(
    by_id: bool, tmp_path: Path, free_port: PORT
) -> None:
    busy = f'port = {free_port()}\nextra_args = ["--slots-busy"]'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": busy, "b": f"port = {free_port()}"})
        pid = rig.one("a").pid
        job = rig.switcher.ask("b", drain_timeout_s=10**6, ticket="mine")
        await rig.reaches_phase("drain")
        with pytest.raises(NotFoundError):
            rig.switcher.call_off(ticket="another's")
        switch_id = (rig.switcher.status() or {})["id"]
        assert rig.switcher.call_off(**({"switch_id": switch_id} if by_id else {"ticket": "mine"}))
        receipt = await receipt_of(job)
        assert receipt.error == "cannot switch to b: it was called off (phase drain); a still serves"
        assert (rig.one("a").pid, rig.running()) == (pid, ["a"])
        assert rig.phases() == ["preflight", "drain", "failed"]
        with pytest.raises(NotFoundError):
            rig.switcher.call_off(ticket="mine")
        async with asyncio.timeout(DEADLINE_S):
            assert (await rig.switcher.ask("b", drain_timeout_s=0).result()).ok
        assert rig.running() == ["b"]


@pytest.mark.parametrize("target", ["b", "alone"])
async def test_switch_called_off_while_its_file_is_checked_changes_nothing(
    target: str, tmp_path: Path, free_port: PORT
) -> None:
    checking = threading.Event()  # never set: that check hangs
    async with running_rig(tmp_path, judge=Opinion(waits_for=checking)) as rig:
        alone = f'port = {free_port()}\ncontrol.group = "h"'
        await rig.up({"a": f"port = {free_port()}", "b": f"port = {free_port()}", "alone": alone})
        job = rig.switcher.ask(target, ticket="mine")
        await rig.reaches_phase("preflight")
        assert rig.switcher.call_off(ticket="mine")
        receipt = await receipt_of(job)
        assert receipt.fault is not None
        assert receipt.fault.detail == "it was called off"
        assert rig.running() == ["a"]
    checking.set()


@pytest.mark.parametrize("phase", ["stop", "ready"])
async def test_switch_that_has_stopped_the_old_one_goes_on(phase: str, tmp_path: Path, free_port: PORT) -> None:
    go = tmp_path / "go"
    a = f'port = {free_port()}\nextra_args = ["--ignore-sigterm"]\ncontrol.stop_timeout_s = 0.2'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": a, "b": f'port = {free_port()}\nextra_args = ["--ready-when", "{go}"]'})
        job = rig.switcher.ask("b", ticket="mine")
        await rig.reaches_phase(phase)
        assert not rig.switcher.call_off(ticket="mine")
        go.touch()
        assert (await receipt_of(job)).ok
        assert rig.running() == ["b"]


async def test_switch_called_off_while_it_waits_never_begins(tmp_path: Path, free_port: PORT) -> None:
    busy = f'port = {free_port()}\nextra_args = ["--slots-busy"]'
    async with running_rig(tmp_path) as rig:
        await rig.up({"a": busy, "b": f"port = {free_port()}"})
        first = rig.switcher.ask("b", drain_timeout_s=10**6, ticket="first")
        await rig.reaches_phase("drain")
        second = rig.switcher.ask("b", wait=True, ticket="second")
        assert rig.switcher.call_off(ticket="second")
        with pytest.raises(SwitchFailedError, match="called off while it waited"):
            await receipt_of(second)
        assert rig.switcher.call_off(ticket="first")
        assert not (await receipt_of(first)).ok
        assert rig.phases() == ["preflight", "drain", "failed"]
