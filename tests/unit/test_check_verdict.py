"""What findings mean for a start, and how that is told."""

import pytest

from infer_dev.check.finding import Finding, Level
from infer_dev.check.verdict import Verdict, cause_of, verdict_from_json
from infer_dev.config.place import Place
from infer_dev.errors import ConfigError
from infer_dev.llama_cpp.cause import Cause


def finding(
    instance: str = "a", *, level: Level = Level.ERROR, code: str = "unknown-option", line: int = 3
) -> Finding:
    place = Place("/rack.toml", line, f"instance.{instance}.server.x")
    return Finding(level=level, code=code, instance=instance, place=place, message="is wrong", hint="write y")


def test_verdict_survives_json() -> None:
    verdict = Verdict((finding(), finding("b", level=Level.NOTE)))
    assert verdict_from_json(verdict.to_json()) == verdict


def test_one_error_is_told_with_its_hint() -> None:
    with pytest.raises(ConfigError, match="cannot start /rack.toml:3: instance.a.server.x: is wrong") as told:
        Verdict((finding(), finding(level=Level.WARNING))).refuse("/rack.toml")
    assert told.value.hint.startswith("write y; nothing was started")


def test_several_errors_are_told_a_line_each() -> None:
    with pytest.raises(ConfigError) as told:
        Verdict((finding(), finding("b", line=9))).refuse("/rack.toml")
    assert told.value.message.splitlines() == [
        "cannot start /rack.toml: 2 errors:",
        "  /rack.toml:3: instance.a.server.x: is wrong (write y)",
        "  /rack.toml:9: instance.b.server.x: is wrong (write y)",
    ]


def test_warnings_and_notes_refuse_nothing() -> None:
    verdict = Verdict((finding(level=Level.WARNING), finding(level=Level.NOTE)))
    verdict.refuse("/rack.toml")
    assert verdict.refusals(["a"]) == {}
    assert verdict.warnings == ["/rack.toml:3: instance.a.server.x: is wrong (write y)"]


def test_each_instance_is_refused_by_its_first_error_and_one_of_the_file_by_all() -> None:
    own = (finding("a", line=1), finding("a", line=2), finding("gone", line=3))
    assert {name: why.detail[:13] for name, why in Verdict(own).refusals(["a", "b"]).items()} == {
        "a": "/rack.toml:1:"
    }
    assert set(Verdict((*own, finding("", line=7))).refusals(["a", "b"])) == {"a", "b"}


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("model-not-found", Cause.MODEL_NOT_FOUND),
        ("model-shard-missing", Cause.SHARD_MISSING),
        ("model-truncated", Cause.MODEL_UNREADABLE),
        ("binary-does-not-run", Cause.BINARY_UNUSABLE),
        ("log-unwritable", Cause.LOG_UNWRITABLE),
        ("unknown-option", Cause.BAD_ARGUMENT),
    ],
)
def test_finding_stands_for_the_cause_it_would_have_had(code: str, cause: Cause) -> None:
    assert cause_of(finding(code=code)) is cause
