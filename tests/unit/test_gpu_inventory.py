"""The GPUs as NVML tells them. The library is played here; that it has what is played is asked of the real one."""

import inspect
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from infer_dev.cli.gpus import HEADERS, Owners, document, rows_of
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.gpu.inventory import (
    HOSTS_PIDS,
    Gpu,
    GpuProcess,
    Inventory,
    Library,
    Machine,
    MigDevice,
    NoInventory,
    counts_pids_as_we_do,
    look,
    read,
)

GIB = 1 << 30
FUNCTIONS = sorted(name for name in vars(Library) if name.startswith("nvml"))
CONSTANTS = sorted(name for name in Library.__annotations__ if name.startswith("NVML"))

SYSTEM = {
    "nvmlInit": None,
    "nvmlShutdown": None,
    "nvmlSystemGetDriverVersion": "550.54.14",
    "nvmlSystemGetCudaDriverVersion_v2": 12040,
}


class PlayedError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


@dataclass
class PlayedGpu:
    """A GPU of the played library; a figure that is missing is not supported."""

    figures: dict[str, Any]
    mig: list["PlayedGpu | None"] = field(default_factory=list)


@dataclass
class PlayedNvml:
    """pynvml with the GPUs given."""

    gpus: list[PlayedGpu]
    failing: dict[str, int] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name == "NVMLError":
            return PlayedError
        if name in CONSTANTS:
            return getattr(pynvml, name)
        assert name in FUNCTIONS, f"{name} is not of the seam"

        def function(*args: Any) -> Any:
            self.called.append(name)
            if name in self.failing:
                raise PlayedError(self.failing[name])
            return self._answer(name, *args)

        return function

    def _answer(self, name: str, *args: Any) -> Any:
        if name in SYSTEM:
            return SYSTEM[name]
        match name, args:
            case "nvmlDeviceGetCount", ():
                return len(self.gpus)
            case "nvmlDeviceGetHandleByIndex", (index,):
                return self.gpus[index]
            case "nvmlDeviceGetMaxMigDeviceCount", (one,):
                return len(one.mig)
            case "nvmlDeviceGetMigDeviceHandleByIndex", (one, index):
                if one.mig[index] is None:
                    raise PlayedError(pynvml.NVML_ERROR_NOT_FOUND)
                return one.mig[index]
        one = args[0]
        if name not in one.figures:
            raise PlayedError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if isinstance(value := one.figures[name], Exception):
            raise value
        return value


def memory(total: int, used: int) -> SimpleNamespace:
    return SimpleNamespace(total=total, used=used, free=total - used)


FULL = {
    "nvmlDeviceGetUUID": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetMemoryInfo": memory(140 * GIB, 10 * GIB),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=12),
    "nvmlDeviceGetTemperatureV": 41,
    "nvmlDeviceGetPowerUsage": 123456,
    "nvmlDeviceGetEnforcedPowerLimit": 700000,
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetComputeRunningProcesses_v3": [
        SimpleNamespace(pid=7, usedGpuMemory=3 * GIB),
        SimpleNamespace(pid=8, usedGpuMemory=None),
    ],
}
WHOLE = Gpu(
    index=0,
    uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    name="NVIDIA H200",
    memory_total_bytes=140 * GIB,
    memory_free_bytes=130 * GIB,
    memory_used_bytes=10 * GIB,
    utilisation_percent=37,
    temperature_c=41,
    power_w=123.456,
    power_limit_w=700.0,
    compute_mode="default",
    mig_mode=False,
    processes=(GpuProcess(pid=7, memory_bytes=3 * GIB), GpuProcess(pid=8, memory_bytes=None)),
)


def machine(nvml: object, *files: str, **environ: str) -> Machine:
    def library() -> Any:
        assert nvml is not None, "the library must not be imported"
        return nvml

    return Machine(environ=environ, exists=files.__contains__, library=library)


def test_what_is_asked_of_the_library_is_there_with_as_many_arguments() -> None:
    assert len(FUNCTIONS) > 15
    for name in FUNCTIONS:
        ours = [one for one in inspect.signature(getattr(Library, name)).parameters if one != "self"]
        inspect.signature(getattr(pynvml, name)).bind(*ours)
    assert all(isinstance(getattr(pynvml, name), int) for name in CONSTANTS if name != "NVMLError")
    assert issubclass(pynvml.NVMLError, Exception)


def test_everything_is_read() -> None:
    nvml = PlayedNvml([PlayedGpu(FULL)])
    assert look(machine(nvml, "/dev/nvidiactl")) == Inventory(driver="550.54.14", cuda=(12, 4), gpus=(WHOLE,))
    assert (nvml.called[0], nvml.called[-1]) == ("nvmlInit", "nvmlShutdown")


FIELDS = {
    "nvmlDeviceGetName": ("name",),
    "nvmlDeviceGetMemoryInfo": ("memory_total_bytes", "memory_free_bytes", "memory_used_bytes"),
    "nvmlDeviceGetUtilizationRates": ("utilisation_percent",),
    "nvmlDeviceGetTemperatureV": ("temperature_c",),
    "nvmlDeviceGetPowerUsage": ("power_w",),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit_w",),
    "nvmlDeviceGetComputeMode": ("compute_mode",),
    "nvmlDeviceGetMigMode": ("mig_mode",),
    "nvmlDeviceGetComputeRunningProcesses_v3": ("processes",),
}


@pytest.mark.parametrize("function", FIELDS)
def test_figure_that_a_card_does_not_have_is_none_and_nothing_else_is_lost(function: str) -> None:
    figures = {name: value for name, value in FULL.items() if name != function}
    one = read(PlayedNvml([PlayedGpu(figures)])).gpus[0]
    for name in Gpu.__slots__:
        if name in FIELDS[function]:
            assert not getattr(one, name)
        else:
            assert getattr(one, name) == getattr(WHOLE, name)


def test_driver_that_tells_no_version_still_shows_its_gpus() -> None:
    unknown = dict.fromkeys(("nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2"), 13)
    found = read(PlayedNvml([PlayedGpu(FULL)], failing=unknown))
    assert (found.driver, found.cuda, found.gpus) == ("", None, (WHOLE,))


def test_old_driver_lists_processes_in_its_own_way() -> None:
    figures = FULL | {
        "nvmlDeviceGetComputeRunningProcesses_v3": PlayedError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND),
        "nvmlDeviceGetComputeRunningProcesses_v2": [SimpleNamespace(pid=9, usedGpuMemory=1)],
    }
    assert read(PlayedNvml([PlayedGpu(figures)])).gpus[0].processes == (GpuProcess(pid=9, memory_bytes=1),)


def test_old_driver_tells_the_temperature_in_its_own_way() -> None:
    figures = {name: value for name, value in FULL.items() if name != "nvmlDeviceGetTemperatureV"}
    figures["nvmlDeviceGetTemperature"] = 63
    assert read(PlayedNvml([PlayedGpu(figures)])).gpus[0].temperature_c == 63


def test_gpu_that_is_lost_keeps_its_number_and_hides_no_other() -> None:
    lost = PlayedGpu({"nvmlDeviceGetUUID": PlayedError(pynvml.NVML_ERROR_GPU_IS_LOST)})
    first, second = read(PlayedNvml([lost, PlayedGpu(FULL)])).gpus
    assert first == Gpu(index=0, problem="error 15")
    assert (second.index, second.name) == (1, "NVIDIA H200")


def test_mig_devices_are_told_and_numbers_without_one_passed_over() -> None:
    part = {
        "nvmlDeviceGetUUID": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "nvmlDeviceGetName": "NVIDIA A100 MIG 1g.5gb",
        "nvmlDeviceGetMemoryInfo": memory(5 * GIB, GIB),
        "nvmlDeviceGetGpuInstanceId": 7,
        "nvmlDeviceGetComputeInstanceId": 0,
    }
    one = read(PlayedNvml([PlayedGpu(FULL | {"nvmlDeviceGetMigMode": [1, 1]}, mig=[None, PlayedGpu(part)])])).gpus[0]
    assert one.mig_mode is True
    assert one.mig == (
        MigDevice(
            uuid="MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
            name="NVIDIA A100 MIG 1g.5gb",
            gpu_instance=7,
            compute_instance=0,
            memory_total_bytes=5 * GIB,
            memory_free_bytes=4 * GIB,
            memory_used_bytes=GIB,
        ),
    )


@pytest.mark.parametrize(
    ("files", "environ", "reason", "hint"),
    [
        ((), {}, "no NVIDIA driver is visible here", "install NVIDIA's driver"),
        (("/.dockerenv",), {}, "the container was started without GPUs", "--gpus all"),
        (("/run/.containerenv",), {"NVIDIA_VISIBLE_DEVICES": "all"}, "started without GPUs", "--gpus all"),
        (("/.dockerenv",), {"NVIDIA_VISIBLE_DEVICES": "void"}, "NVIDIA_VISIBLE_DEVICES is 'void'", "name the GPUs"),
    ],
)
def test_machine_without_a_driver_is_no_failure(files, environ, reason, hint) -> None:
    found = look(machine(None, *files, **environ))
    assert isinstance(found, NoInventory)
    assert not found.is_failure
    assert reason in found.reason
    assert hint in found.hint


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "not its library libnvidia-ml.so.1"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "driver/library version mismatch"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "kernel module is not loaded"),
        ("NVML_ERROR_NO_PERMISSION", "may not use"),
        ("NVML_ERROR_UNKNOWN", "does not answer: error 999"),
    ],
)
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_driver_that_does_not_answer_is_a_failure_with_its_reason(code, reason, function) -> None:
    found = look(machine(PlayedNvml([], failing={function: getattr(pynvml, code)}), "/dev/nvidiactl"))
    assert isinstance(found, NoInventory)
    assert found.is_failure
    assert reason in found.reason
    assert found.hint


def test_wsl_with_another_maker_s_gpu_has_no_driver() -> None:
    nvml = PlayedNvml([], failing={"nvmlInit": pynvml.NVML_ERROR_LIBRARY_NOT_FOUND})
    found = look(machine(nvml, "/dev/dxg"))
    assert isinstance(found, NoInventory)
    assert not found.is_failure


def test_the_real_library_is_told_from_none() -> None:
    """With a device file, but no driver's library: what the real pynvml then raises is understood."""
    if gpu.are_present():
        pytest.skip("this host has a GPU")
    found = look(Machine(exists={"/dev/nvidiactl"}.__contains__))
    assert isinstance(found, NoInventory)
    assert (found.is_failure, "libnvidia-ml.so.1" in found.reason) == (True, True)


def test_what_the_machine_shows_is_read_without_an_error() -> None:
    found = look()
    if gpu.driver() is None:
        assert isinstance(found, NoInventory)
        assert not found.is_failure
    elif isinstance(found, Inventory):
        assert all(one.uuid.startswith("GPU-") or one.problem for one in found.gpus)
        assert [one.index for one in found.gpus] == list(range(len(found.gpus)))


def test_pids_are_the_driver_s_only_outside_a_container() -> None:
    def none(_: str) -> str:
        raise FileNotFoundError

    assert counts_pids_as_we_do(lambda _: HOSTS_PIDS)
    assert not counts_pids_as_we_do(lambda _: "pid:[4026532211]")
    assert not counts_pids_as_we_do(none)


def test_instances_are_found_by_pid_and_by_session() -> None:
    def session(pid: int) -> int:
        if pid == 99:
            raise ProcessLookupError
        return {8: 5}[pid]

    owners = Owners({7: "glm", 5: "qwen"}, session)
    processes = [GpuProcess(pid=pid, memory_bytes=None) for pid in (7, 8, 99)]
    assert owners.of(processes) == ["glm", "qwen"]
    assert owners.of(processes[2:]) == []
    assert Owners({}, lambda _: 0).of(processes) == []


def test_table_has_a_line_for_each_gpu_and_each_mig_device() -> None:
    device = MigDevice(uuid="MIG-1", name="1g.5gb", memory_total_bytes=5 * GIB, memory_used_bytes=GIB)
    cut = Gpu(index=1, uuid="GPU-1", mig_mode=True, mig=(device,))
    found = Inventory(driver="550", cuda=(12, 4), gpus=(WHOLE, cut, Gpu(index=2, problem="GPU is lost")))
    rows = [dict(zip(HEADERS, row, strict=True)) for row in rows_of(found, Owners({7: "glm"}, lambda _: 0))]
    assert [row["INDEX"] for row in rows] == ["0", "1", "", "2"]
    assert rows[0] == {
        "INDEX": "0",
        "NAME": "NVIDIA H200",
        "MEMORY": "10.0 GiB / 140.0 GiB",
        "UTIL": "37 %",
        "TEMP": "41 C",
        "POWER": "123 W / 700 W",
        "INSTANCES": "glm",
        "UUID": WHOLE.uuid,
    }
    assert {key: value for key, value in rows[1].items() if value != "-"} == {"INDEX": "1", "UUID": "GPU-1"}
    assert (rows[2]["UUID"], rows[2]["MEMORY"]) == ("MIG-1", "1.0 GiB / 5.0 GiB")
    assert "GPU is lost" in rows[3]["NAME"]


def test_document_is_json_with_the_instances_of_each() -> None:
    device = MigDevice(uuid="MIG-1", name="1g.5gb", processes=(GpuProcess(pid=7, memory_bytes=1),))
    found = Inventory(driver="550", cuda=(12, 4), gpus=(Gpu(index=0, uuid="GPU-1", mig_mode=True, mig=(device,)),))
    told = json.loads(json.dumps(document(found, Owners({7: "glm"}, lambda _: 0))))
    assert (told["driver"], told["cuda"], told["reason"]) == ("550", "12.4", "")
    [one] = told["gpus"]
    assert (one["index"], one["uuid"], one["power_w"], one["instances"]) == (0, "GPU-1", None, ["glm"])
    assert one["mig"][0]["instances"] == ["glm"]
    assert one["mig"][0]["processes"] == [{"pid": 7, "memory_bytes": 1}]


def test_command_without_a_driver_says_why_and_succeeds(cli) -> None:
    if gpu.are_present():
        pytest.skip("this host has a GPU")
    shown = cli("gpus")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.startswith("infer-dev: cannot show GPUs: no NVIDIA driver is visible here")
    assert shown.stderr.count("\n") == 1
    as_json = cli("gpus", "--json")
    assert as_json.returncode == 0
    told = json.loads(as_json.stdout)
    assert (told["gpus"], told["driver"], told["cuda"]) == ([], None, None)
    assert "no NVIDIA driver" in told["reason"]
