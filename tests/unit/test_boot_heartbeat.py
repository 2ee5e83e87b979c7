"""Silence is counted in boot's running time."""

import pytest

from infer_dev.boot.heartbeat import Heartbeat
from infer_dev.boot.limits import GRACE_S, Limits, grace_of

LIMITS = Limits(silent_s=4.0, unwatched_s=2.0)


def silent_for(heartbeat: Heartbeat, seconds: int) -> None:
    for _ in range(seconds):
        heartbeat.pass_time(1.0, asked_s=1.0)


def test_heartbeat_stops_after_the_silence_allowed() -> None:
    heartbeat = Heartbeat(LIMITS)
    silent_for(heartbeat, 2 + 3)
    assert not heartbeat.has_stopped
    silent_for(heartbeat, 1)
    assert heartbeat.has_stopped


def test_beat_begins_the_count_anew() -> None:
    heartbeat = Heartbeat(LIMITS)
    for _ in range(10):
        silent_for(heartbeat, 3)
        heartbeat.beat()
    assert not heartbeat.has_stopped


@pytest.mark.parametrize("piece_s", [2.3, 60.0, 86400.0])
def test_suspension_of_boot_begins_the_count_anew(piece_s: float) -> None:
    heartbeat = Heartbeat(LIMITS)
    silent_for(heartbeat, 2 + 3)
    heartbeat.pass_time(piece_s, asked_s=1.25)
    silent_for(heartbeat, 3)
    assert not heartbeat.has_stopped
    silent_for(heartbeat, 1)
    assert heartbeat.has_stopped


def test_short_delays_of_a_busy_machine_are_still_counted() -> None:
    heartbeat = Heartbeat(LIMITS)
    silent_for(heartbeat, 2)
    for _ in range(2):
        heartbeat.pass_time(2.0, asked_s=1.25)
    assert heartbeat.has_stopped


def test_daemon_that_leaves_is_excused_for_a_while() -> None:
    heartbeat = Heartbeat(LIMITS)
    silent_for(heartbeat, 2 + 3)
    heartbeat.excuse()
    silent_for(heartbeat, 2 + 3)
    assert not heartbeat.has_stopped
    silent_for(heartbeat, 1)
    assert heartbeat.has_stopped


@pytest.mark.parametrize(("given", "grace_s"), [("", GRACE_S), ("7.5", 7.5), ("0", 0.0), (" 3 ", 3.0)])
def test_grace_is_read_from_the_environment(given: str, grace_s: float) -> None:
    assert grace_of({"INFER_DEV_STOP_GRACE_S": given}) == grace_s


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "inf"])
def test_grace_that_is_no_number_of_seconds_is_told_and_left_aside(
    given: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert grace_of({"INFER_DEV_STOP_GRACE_S": given}) == GRACE_S
    assert f"cannot use INFER_DEV_STOP_GRACE_S={given!r}" in capfd.readouterr().err
