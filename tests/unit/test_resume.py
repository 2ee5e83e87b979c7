"""What a new daemon makes of saved records, without a process."""

import pytest

from infer_dev.host.process.pidfd import Exit
from infer_dev.plan.model import Command, Endpoint, Spec
from infer_dev.supervisor.lifecycle import Life, State
from infer_dev.supervisor.resume import findings
from infer_dev.supervisor.state import ProcessRecord, Record, Saved

SPEC = Spec(
    name="a",
    source="/rack.toml",
    command=Command(argv=("llama-server",), cwd="/", log_file="/a.log"),
    endpoint=Endpoint(bind_host="127.0.0.1", dial_host="127.0.0.1", port=8080),
)
GONE = ProcessRecord(pid=2**22 + 1, start_time=1, spawned_at=0.0, ready_after_s=None, log_start=7, spawn="1f")


def found(life: Life, process: ProcessRecord | None, codes: dict[tuple[int, int], int] | None = None):
    record = Record(spec=SPEC, life=life, process=process, life_id="x", saved_at=100.0)
    [finding] = findings(Saved(records={"a": record}, sources={}), {}, now=200.0, codes=codes or {})
    return finding.past


@pytest.mark.parametrize("state", [State.STARTING, State.READY, State.DEGRADED, State.STOPPING])
def test_running_state_without_a_process_means_that_it_has_ended(state: State) -> None:
    past = found(Life(state=state, wanted=True), None)
    assert (past.running, past.ended) == (None, Exit())


@pytest.mark.parametrize(
    "life",
    [
        Life(state=State.STARTING, wanted=True, held=True),
        Life(state=State.STOPPED),
        Life(state=State.STOPPED, wanted=True),
        Life(state=State.BACKOFF, wanted=True, due=105.0),
    ],
)
def test_state_of_no_process_has_none_that_ended(life: Life) -> None:
    past = found(life, None)
    assert (past.running, past.ended) == (None, None)


def test_process_that_is_gone_has_ended_as_its_reaper_tells() -> None:
    life = Life(state=State.READY, wanted=True)
    assert found(life, GONE).ended == Exit()
    assert found(life, GONE, {(GONE.pid, GONE.start_time): -9}).ended == Exit(signal=9)
    assert found(life, GONE).log_start == 7


def test_time_that_is_left_counts_on_from_when_it_was_saved() -> None:
    assert found(Life(state=State.BACKOFF, wanted=True, due=105.0), None).life.due == 205.0
    assert found(Life(state=State.BACKOFF, wanted=True, due=95.0), None).life.due == 200.0
