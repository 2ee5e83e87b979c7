"""The clock that stands still while nobody runs."""

import pytest

from infer_dev.supervisor.clock import LONGEST_GAP_S, Clock


def test_clock_goes_on_while_it_is_read() -> None:
    times = iter([100.0, 101.0, 101.5, 101.5 + LONGEST_GAP_S])
    clock = Clock(lambda: next(times))
    assert [clock() for _ in range(3)] == [101.0, 101.5, 101.5 + LONGEST_GAP_S]


def test_clock_leaves_out_a_suspension() -> None:
    times = iter([100.0, 101.0, 161.0, 162.0, 1000.0, 1001.0])
    clock = Clock(lambda: next(times))
    assert [clock() for _ in range(5)] == pytest.approx([101.0, 101.0, 102.0, 102.0, 103.0])
