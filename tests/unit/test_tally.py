"""Counters over the history: what is counted, what survives, and that nothing falls."""

from pathlib import Path

from infer_dev.api.exposition import write
from infer_dev.api.tally import Tally
from infer_dev.supervisor.history import History, Journal, Kind


def add(
    history: History, old: str, new: str, *, after_s: float = 1.0, cause: str | None = None, **other: str
) -> None:
    history.add(**{"instance": "a"} | other, old=old, new=new, after_s=after_s, cause=cause)


def lines(tally: Tally) -> set[str]:
    return {line for line in write(tally.families()).splitlines() if not line.startswith("#")}


def crash(history: History) -> None:
    """Two crashes: one is followed by a restart at once, the other by one after a while; then it hangs."""
    add(history, "stopped", "starting")
    add(history, "starting", "ready", after_s=0.3)
    add(history, "ready", "starting", cause="crashed")
    add(history, "starting", "ready", after_s=7.0)
    add(history, "ready", "backoff", cause="killed")
    add(history, "backoff", "starting")
    add(history, "starting", "ready", after_s=700.0)
    add(history, "ready", "degraded", cause="wedged")
    add(history, "degraded", "ready")
    add(history, "ready", "degraded", cause="wedged")
    add(history, "degraded", "stopping", cause="wedged")
    add(history, "stopping", "failed", cause="wedged")
    add(history, "failed", "starting")


def test_starts_and_restarts_by_cause_are_counted() -> None:
    history = History()
    tally = Tally(history)
    crash(history)
    found = lines(tally)
    assert {
        'infer_dev_instance_starts_total{instance="a"} 4',
        'infer_dev_instance_restarts_total{instance="a",cause="crashed"} 1',
        'infer_dev_instance_restarts_total{instance="a",cause="killed"} 1',
        'infer_dev_instance_failures_total{instance="a",cause="wedged"} 1',
        'infer_dev_events_total{kind="transition"} 13',
    } <= found
    assert sum("restarts_total" in line for line in found) == 2, "a start by hand is none"


def test_time_to_ready_is_spread_over_buckets() -> None:
    history = History()
    tally = Tally(history)
    crash(history)
    assert {
        'infer_dev_instance_ready_seconds_bucket{instance="a",le="0.25"} 0',
        'infer_dev_instance_ready_seconds_bucket{instance="a",le="0.5"} 1',
        'infer_dev_instance_ready_seconds_bucket{instance="a",le="10"} 2',
        'infer_dev_instance_ready_seconds_bucket{instance="a",le="+Inf"} 3',
        'infer_dev_instance_ready_seconds_sum{instance="a"} 707.3',
        'infer_dev_instance_ready_seconds_count{instance="a"} 3',
    } <= lines(tally)


def test_phases_of_a_switch_are_spread_by_phase() -> None:
    history = History()
    tally = Tally(history)
    for old, new in (("", "drain"), ("drain", "stop"), ("stop", "done"), ("", "preflight"), ("preflight", "failed")):
        history.add(kind=Kind.SWITCH, instance="b", old=old, new=new, after_s=2.0)
    found = lines(tally)
    assert 'infer_dev_switch_phase_seconds_bucket{phase="drain",le="2.5"} 1' in found
    assert 'infer_dev_switch_phase_seconds_count{phase="stop"} 1' in found
    assert 'infer_dev_events_total{kind="switch"} 5' in found
    assert 'infer_dev_switches_total{instance="b",outcome="done"} 1' in found
    assert 'infer_dev_switches_total{instance="b",outcome="failed"} 1' in found


def test_counts_go_on_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    crash(before := History(journal=Journal(path)))
    counted = lines(Tally(before))
    after = History(journal=Journal(path))
    tally = Tally(after)
    assert lines(tally) == counted
    add(after, "starting", "ready")
    assert 'infer_dev_instance_ready_seconds_count{instance="a"} 4' in lines(tally)


def test_counts_begin_anew_where_the_first_records_are_gone() -> None:
    """A part of them would look to Prometheus as if all that is left had happened just now."""
    history = History(kept=5)
    crash(history)
    assert 'infer_dev_events_total{kind="transition"} 0' in lines(Tally(history))


def test_nothing_falls_when_records_fall_out_of_the_history() -> None:
    history = History(kept=3)
    tally = Tally(history)
    for _ in range(4):
        crash(history)
    assert 'infer_dev_instance_starts_total{instance="a"} 16' in lines(tally)
