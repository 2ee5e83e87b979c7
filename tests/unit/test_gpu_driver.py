"""Waiting for GPU memory, over a driver that is played; the real one is NVML."""

from collections.abc import Sequence

import pytest

from infer_dev.host.gpu import driver as gpu
from infer_dev.host.gpu.driver import Use, wait_until_released

MIB = 1024 * 1024


class PlayedDriver:
    """Gives the looks at each GPU one after another, the last one for ever."""

    def __init__(self, **looks: Sequence[Use | OSError]) -> None:
        self.looks = {name.removeprefix("gpu"): list(of) for name, of in looks.items()}
        self.asked = 0

    def use(self, gpu: str) -> Use:
        self.asked += 1
        looks = self.looks[gpu]
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(look, OSError):
            raise look
        return look

    def all(self) -> tuple[str, ...]:
        return tuple(self.looks)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def used(mib: int, *pids: int) -> Use:
    return Use(used_bytes=mib * MIB, by_pid=dict.fromkeys(pids, 1))


def wait(driver: PlayedDriver, gpus: Sequence[str] | None, *pids: int) -> tuple[bool, float]:
    time = Time()
    return wait_until_released(driver, gpus, pids, clock=time, sleep=time.sleep), time.now


def test_memory_is_free_once_the_process_is_no_longer_listed_and_the_use_is_steady() -> None:
    driver = PlayedDriver(gpu0=[used(900, 7), used(900, 7), used(300), used(10)])
    assert wait(driver, ["0"], 7)[0]
    assert driver.asked == 4 + gpu.STEADY_LOOKS


def test_memory_that_still_falls_is_waited_for_where_no_pid_tells() -> None:
    falling = [used(mib) for mib in range(900, 0, -100)]
    driver = PlayedDriver(gpu0=falling)
    assert wait(driver, ["0"], 7)[0]
    assert driver.asked >= len(falling) + gpu.STEADY_LOOKS


def test_others_that_take_memory_meanwhile_do_not_hold_it_up() -> None:
    driver = PlayedDriver(gpu0=[used(mib, 9) for mib in (100, 300, 500, 700, 900)])
    assert wait(driver, ["0"], 7)[0]


def test_every_gpu_of_the_instance_is_watched() -> None:
    driver = PlayedDriver(gpu0=[used(10)], gpu1=[used(900, 7)] * 20 + [used(10)])
    assert wait(driver, ["0", "1"], 7)[0]
    assert not driver.looks["1"][1:]
    assert wait(PlayedDriver(gpu0=[used(10)], gpu1=[used(900, 7)]), None, 7)[0] is False


def test_memory_that_is_never_free_is_given_up_after_the_timeout() -> None:
    freed, waited_s = wait(PlayedDriver(gpu0=[used(900, 7)]), ["0"], 7)
    assert not freed
    assert waited_s == pytest.approx(gpu.RELEASE_TIMEOUT_S, abs=2 * gpu.POLL_S)


def test_driver_that_does_not_answer_is_told_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    assert wait(PlayedDriver(gpu0=[OSError("NVML: GPU 0: Unknown Error")]), ["0"], 7) == (False, 0.0)
    assert "cannot tell whether GPU memory is free again: NVML: GPU 0" in caplog.text


def test_no_gpu_needs_no_wait() -> None:
    assert wait(PlayedDriver(), (), 7) == (True, 0.0)


def test_nvml_tells_plainly_where_there_is_no_driver() -> None:
    if gpu.are_present():
        pytest.skip("this host has a GPU")
    assert gpu.driver() is None
    with pytest.raises(OSError, match="NVML: .*Not Found"):
        gpu.Nvml().use("0")


def test_nvml_shows_the_memory_of_a_real_gpu() -> None:
    driver = gpu.driver()
    if driver is None:
        pytest.skip("no GPU")
    assert driver.use(driver.all()[0]).used_bytes > 0
    assert wait_until_released(driver, None, [2**22 + 1])
