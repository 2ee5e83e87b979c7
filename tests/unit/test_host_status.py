"""The machine's figures: GPUs, limits of the container, disks; and that none of them can hold anybody up."""

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from infer_dev.api.exposition import write
from infer_dev.api.fresh import Fresh
from infer_dev.api.gpu_metrics import gpu_families
from infer_dev.api.host_status import HostStatus
from infer_dev.host import usage
from infer_dev.host.container_limits import ContainerLimits, container_limits
from infer_dev.host.gpu.inventory import Gpu, GpuProcess, Inventory, MigDevice, NoInventory
from infer_dev.plan.argv import endpoint_of
from infer_dev.plan.model import Command, Spec
from infer_dev.supervisor.lifecycle import Life, State
from infer_dev.supervisor.status import Status, status_of

ROOT = "/sys/fs/cgroup"
INVENTORY = Inventory(
    driver="550.54.14",
    cuda=(12, 4),
    gpus=(
        Gpu(
            index=0,
            uuid="GPU-a",
            name="Card",
            memory_total_bytes=100,
            memory_used_bytes=40,
            utilisation_percent=25,
            temperature_c=50,
            power_w=70.5,
            processes=(GpuProcess(pid=os.getpid(), memory_bytes=30), GpuProcess(pid=2**22 + 1, memory_bytes=None)),
            mig=(MigDevice(uuid="MIG-b", name="slice", memory_total_bytes=10, memory_used_bytes=1),),
        ),
        Gpu(index=1, problem="lost"),
    ),
)


def status(tmp_path: Path, pid_of: int | None) -> Status:
    argv = ("llama-server",)
    command = Command(argv=argv, cwd="/", log_file=str(tmp_path / "logs" / "a.log"))
    spec = Spec(name="a", source="/a.toml", command=command, endpoint=endpoint_of(argv, {}))
    made = status_of(spec, Life(state=State.READY), None, now=1, entered=0, waits_for=())
    return Status(**{**made.to_json(), "pid": pid_of})


def limits(files: Mapping[str, str], folder: str | None = None) -> ContainerLimits:
    return container_limits(files.get, lambda: folder)


async def test_status_tells_gpus_with_the_instances_on_them(tmp_path: Path) -> None:
    host = HostStatus(str(tmp_path), look_at_gpus=lambda: INVENTORY, counts_pids=lambda: True)
    found = await host.to_json([status(tmp_path, os.getpid())])
    assert [one["uuid"] for one in found["gpus"]] == ["GPU-a", ""]
    assert [one["instance"] for one in found["gpus"][0]["processes"]] == ["a", None]
    assert found["gpus_note"] == ""
    assert found["host"]["cpus"] >= 1
    assert found["host"]["memory_total_bytes"] > found["host"]["memory_available_bytes"] > 0
    assert {path for disk in found["host"]["disks"] for path in disk["paths"]} == {
        str(tmp_path),
        str(tmp_path / "logs"),
    }
    assert set(found["container"]) == {"memory_max_bytes", "memory_current_bytes", "cpus"}


async def test_pids_that_are_counted_otherwise_name_no_instance(tmp_path: Path) -> None:
    host = HostStatus(str(tmp_path), look_at_gpus=lambda: INVENTORY, counts_pids=lambda: False)
    found = await host.to_json([status(tmp_path, os.getpid())])
    assert found["gpus"][0]["processes"][0]["instance"] is None


async def test_without_a_driver_there_are_none_and_a_note_says_why(tmp_path: Path) -> None:
    host = HostStatus(str(tmp_path), look_at_gpus=lambda: NoInventory(reason="no driver"))
    found = await host.to_json([])
    assert (found["gpus"], found["gpus_note"]) == ([], "no driver")


def test_gpus_are_measured_by_uuid_in_base_units() -> None:
    text = write(gpu_families(INVENTORY, lambda process: "a" if process.memory_bytes else None))
    found = {line for line in text.splitlines() if not line.startswith("#")}
    assert found == {
        'infer_dev_gpu_up{gpu="0"} 1',
        'infer_dev_gpu_up{gpu="1"} 0',
        'infer_dev_gpu_info{uuid="GPU-a",gpu="0",name="Card",driver="550.54.14"} 1',
        'infer_dev_gpu_memory_total_bytes{uuid="GPU-a"} 100',
        'infer_dev_gpu_memory_total_bytes{uuid="MIG-b"} 10',
        'infer_dev_gpu_memory_used_bytes{uuid="GPU-a"} 40',
        'infer_dev_gpu_memory_used_bytes{uuid="MIG-b"} 1',
        'infer_dev_gpu_utilization_ratio{uuid="GPU-a"} 0.25',
        'infer_dev_gpu_temperature_celsius{uuid="GPU-a"} 50',
        'infer_dev_gpu_power_watts{uuid="GPU-a"} 70.5',
        'infer_dev_instance_gpu_memory_bytes{instance="a",uuid="GPU-a"} 30',
    }


async def test_a_figure_is_found_out_once_for_all_who_ask_and_again_when_it_is_old() -> None:
    now, found = [0.0], []

    def find() -> int:
        found.append(1)
        return len(found)

    fresh = Fresh(find, clock=lambda: now[0])
    assert await asyncio.gather(*(fresh.get() for _ in range(20))) == [1] * 20
    now[0] = 0.5
    assert await fresh.get() == 1
    now[0] = 2.0
    assert await fresh.get() == 2


async def test_a_driver_that_hangs_holds_nobody_up_and_is_asked_by_one_thread() -> None:
    answer, asked = threading.Event(), []

    def find() -> int:
        asked.append(1)
        answer.wait()
        return 7

    fresh = Fresh(find, wait_s=0.01)
    assert [await fresh.get() for _ in range(5)] == [None] * 5
    assert len(asked) == 1
    answer.set()
    async with asyncio.timeout(20):
        while await fresh.get() != 7:
            await asyncio.sleep(0.01)


async def test_a_figure_that_cannot_be_found_out_is_none() -> None:
    def find() -> int:
        raise RuntimeError("a bug")

    assert await Fresh(find).get() is None


def test_the_least_limit_above_a_group_holds() -> None:
    files = {
        f"{ROOT}/a/b/memory.max": "max\n",
        f"{ROOT}/a/b/memory.current": "5\n",
        f"{ROOT}/a/b/cpu.max": "max 100000\n",
        f"{ROOT}/a/memory.max": "100\n",
        f"{ROOT}/a/memory.current": "70\n",
        f"{ROOT}/a/cpu.max": "150000 100000\n",
    }
    assert limits(files, f"{ROOT}/a/b") == ContainerLimits(memory_max_bytes=100, memory_current_bytes=70, cpus=1.5)


def test_limits_of_the_first_version_are_read_where_the_second_has_none() -> None:
    files = {
        "/proc/self/cgroup": "4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n0::/\n",
        f"{ROOT}/memory/docker/x/memory.limit_in_bytes": "9223372036854771712\n",
        f"{ROOT}/memory/docker/x/memory.usage_in_bytes": "5\n",
        f"{ROOT}/memory/docker/memory.limit_in_bytes": "100\n",
        f"{ROOT}/memory/docker/memory.usage_in_bytes": "70\n",
        f"{ROOT}/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        f"{ROOT}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert limits(files) == ContainerLimits(memory_max_bytes=100, memory_current_bytes=70, cpus=0.5)


def test_nothing_to_read_means_no_limit() -> None:
    assert limits({}) == ContainerLimits()
    assert limits({f"{ROOT}/memory.max": "rubbish"}, ROOT) == ContainerLimits()


def test_utilisation_is_told_between_two_looks_only() -> None:
    before = usage.CpuTimes(busy=100, total=1000)
    assert before.utilisation_since(before) is None
    assert usage.CpuTimes(busy=150, total=1200).utilisation_since(before) == 0.25


def test_a_folder_that_is_not_there_counts_as_the_one_above_it(tmp_path: Path) -> None:
    found = usage.disks([str(tmp_path), str(tmp_path / "none" / "at" / "all"), ""])
    assert [disk.paths for disk in found] == [(str(tmp_path), str(tmp_path / "none" / "at" / "all"))]
    assert 0 <= found[0].free_bytes <= found[0].total_bytes


def test_a_figure_that_comes_when_the_daemon_has_left_troubles_nobody() -> None:
    answer, done = threading.Event(), threading.Event()

    def find() -> int:
        answer.wait()
        done.set()
        return 1

    assert asyncio.run(Fresh(find, wait_s=0.01).get()) is None
    answer.set()
    assert done.wait(20)
    for thread in threading.enumerate():
        if thread.name == "figure":
            thread.join(20)
