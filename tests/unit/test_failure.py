"""The cause of every failure transcript, and of fragments seen in other versions."""

import json
from pathlib import Path

import pytest

from infer_dev.llama_cpp.cause import NEXT_STEP, Cause
from infer_dev.llama_cpp.failure import classify

LOGS = Path(__file__).parent / "data" / "llama-server-logs"
TRANSCRIPTS = [
    (version.name, name, about)
    for version in sorted(LOGS.iterdir())
    if (version / "index.json").exists()
    for name, about in json.loads((version / "index.json").read_text()).items()
    if about["cause"] is not None  # the others did not fail
]
FRAGMENTS = json.loads((LOGS / "other-versions.json").read_text())


def of(exit_status: int | None, lines: list[str]) -> Cause:
    if exit_status is not None and exit_status < 0:
        return classify(status=None, signal=-exit_status, lines=lines)
    return classify(status=exit_status, signal=None, lines=lines)


@pytest.mark.parametrize(("version", "name", "about"), TRANSCRIPTS)
def test_transcript_is_classified(version: str, name: str, about: dict[str, object]) -> None:
    lines = (LOGS / version / name).read_text(errors="replace").splitlines()[-200:]
    assert of(about["exit_status"], lines) == about["cause"]


@pytest.mark.parametrize(
    "fragment", FRAGMENTS, ids=lambda fragment: f"{fragment['cause']}:{fragment['lines'][0][:40]}"
)
def test_fragment_of_another_version_is_classified(fragment: dict[str, object]) -> None:
    assert of(fragment["exit_status"], fragment["lines"]) == (fragment["cause"] or Cause.UNKNOWN)


def test_kill_is_not_blamed_on_the_log() -> None:
    assert of(-9, ["E gguf_init_from_file: failed to open GGUF file 'x' (No such file or directory)"]) is Cause.KILLED


def test_signal_without_a_message_is_a_crash() -> None:
    assert of(-11, ["all good"]) is Cause.CRASHED


def test_unknown_exit_is_unknown() -> None:
    assert of(3, ["bye"]) is Cause.UNKNOWN
    assert classify(status=None, signal=None, lines=[]) is Cause.UNKNOWN


def test_every_cause_has_a_next_step() -> None:
    assert set(NEXT_STEP) == set(Cause)
