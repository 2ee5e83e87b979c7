"""Subjects of a check from the text of a file, with its `server` keys for options."""

from collections.abc import Mapping
from pathlib import Path

from infer_dev.check.finding import Finding
from infer_dev.check.subject import Subject
from infer_dev.check.words import words_of
from infer_dev.config.load import load
from infer_dev.plan.build import build_plan


def subjects_of(
    tmp_path: Path,
    text: str,
    *,
    is_sure: bool = True,
    environ: Mapping[str, str] | None = None,
    binary: str = "/b/llama-server",
) -> list[Subject]:
    path = tmp_path / "x.toml"
    path.write_text(text)
    file = load(str(path))
    plan = build_plan(file, binary, environ or {})
    found = []
    for instance, spec in zip(file.instances, plan.specs, strict=True):
        words = words_of(file, instance)
        options: dict[str, str] = {}
        paths: dict[str, tuple[str, ...]] = {}
        for key, value in instance.server.items():
            if key != "extra_args" and value is not False:
                option = key.replace("_", "-")
                options[option] = "" if value is True else str(value)
                own = ("instance", spec.name, "server", key)
                paths[option] = own if file.value(*own) is not None else ("instance", "server", key)
        found.append(Subject(file=file, spec=spec, words=words, options=options, option_paths=paths, is_sure=is_sure))
    return found


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    """Level, code and instance of each; every message is one line without a full stop."""
    for one in findings:
        assert one.message
        assert not one.message.endswith(".")
        assert "\n" not in one.message + one.hint
    return [(str(one.level), one.code, one.instance) for one in findings]
