"""The soak for 20 seconds: the same code, so that the long run does not rot."""

from pathlib import Path

import pytest

from tests.conftest import Parts
from tests.soak import rack
from tests.soak.replay import contradictions, edges
from tests.soak.run import Soak
from tests.soak.watch import Sample, growth

SECONDS = 20


@pytest.mark.real
@pytest.mark.timeout(300)
def test_short_soak_finds_nothing_wrong(tmp_path: Path, parts: Parts, capfd: pytest.CaptureFixture[str]) -> None:
    soak = Soak(tmp_path, rack.Parts(parts.server, parts.model), seconds=SECONDS, seed=1)
    assert soak.run(), capfd.readouterr().out


def record(number: int, old: str, new: str, second: int, **others: object) -> dict[str, object]:
    time = f"2026-01-02T00:00:{second:02}.000+00:00"
    usual = {"kind": "transition", "instance": "a", "cause": None, "detail": ""}
    return usual | {"id": number, "time": time, "old": old, "new": new} | others


def test_replay_knows_what_cannot_have_been() -> None:
    good = [record(1, "stopped", "starting", 1), record(2, "starting", "ready", 2)]
    assert contradictions(good, []) == []
    assert contradictions([*good, record(3, "ready", "backoff", 3)], []) != [], "no cause"
    assert contradictions([*good, record(3, "stopped", "ready", 3)], []) != [], "no such transition, and no chain"
    assert contradictions([*good, record(4, "ready", "stopping", 3)], []) != [], "a record is missing"
    reload = record(3, "", "done", 3, kind="reload", instance="")
    assert contradictions([*good, reload, record(4, "ready", "stopping", 3)], []) == []
    broken = record(3, "ready", "failed", 3, cause="unknown", detail="internal error: see the daemon's log")
    assert contradictions([*good, broken], []) != []


def test_replay_allows_one_step_to_be_lost_where_a_daemon_ended() -> None:
    cut = [record(1, "stopped", "starting", 1), record(2, "ready", "stopping", 3)]
    end = 1767312002.0
    assert contradictions(cut, []) != []
    assert contradictions(cut, [end]) == []
    assert contradictions(cut, [end + 60]) != [], "no daemon ended between the two"
    assert contradictions([cut[0], record(2, "degraded", "stopping", 3)], [end]) != [], "two steps"


def test_replay_drives_the_machine_through_every_state() -> None:
    known = edges()
    assert ("ready", "starting") in known.living
    assert ("stopped", "ready") not in known.living | known.resumed
    assert {old for old, _ in known.living} == {
        *("disabled", "stopped", "starting", "ready", "degraded", "stopping", "backoff", "failed")
    }


def sample(**grown: int) -> Sample:
    names = (
        "fds",
        "threads",
        "anon_bytes",
        "pss_bytes",
        "rss_bytes",
        "zombies",
        "marked",
        "state_files",
        "state_bytes",
    )
    values = dict.fromkeys((*names, "history_bytes", "log_bytes", "log_files"), 100)
    return Sample(at_s=1.0, **(values | {"threads": 5} | grown))


def test_growth_is_told_by_its_name() -> None:
    assert growth([sample()] * 6) == []
    assert growth([sample()] * 5 + [sample(threads=6)]) == ["6 threads, of which the pool may have 4"]
    assert growth([sample()] * 4 + [sample(fds=101)] * 2) == ["fds grew from 100 to 101"]
    assert growth([sample()] * 4 + [sample(anon_bytes=109, pss_bytes=500)] * 2) == []
    assert growth([sample()] * 4 + [sample(anon_bytes=112)] * 2) == ["anon_bytes grew from 100 to 112"]
