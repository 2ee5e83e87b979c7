"""Runs all checks over a file."""

import os
from collections.abc import Iterator, Mapping, Sequence

from infer_dev.check.finding import Finding
from infer_dev.check.flags import flag_findings
from infer_dev.check.look import Look, looks_at
from infer_dev.check.report import Report, report_of_mistakes
from infer_dev.check.resolve import resolve_for_show, source_of_caller
from infer_dev.check.verdict import Verdict
from infer_dev.config.load import ConfigFile, MistakesError
from infer_dev.plan.model import Endpoint, Plan
from infer_dev.settings import cache_dir


def examine(path: str, environ: Mapping[str, str], *, running: Mapping[Endpoint, int | None]) -> Report:
    """All that can be told of a file without starting anything but `llama-server --help`.

    Args:
        path: of the file.
        environ: what instances inherit; names the overrides, too.
        running: the endpoints that instances hold now, with their pids.
    """
    try:
        file, plan, missing = resolve_for_show(source_of_caller(path, environ), environ)
    except MistakesError as err:
        return report_of_mistakes(path, err)
    looks = looks_at(file, plan, [spec.name for spec in plan.specs], environ, cache=cache_dir(environ))
    findings = list(_findings(file, looks))
    if missing:
        findings.insert(0, _no_binary(file, missing))
    catalogues = [one.catalogue for one in looks if one.catalogue is not None]
    return Report(
        path=path,
        binary="" if missing else plan.binary,
        version=catalogues[0].version if catalogues else "",
        findings=tuple(findings),
    )


def judge(file: ConfigFile, plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None]) -> Verdict:
    """What is found about the instances that are to be started."""
    looks = looks_at(file, plan, names, os.environ, cache=cache_dir(os.environ))
    return Verdict(tuple(_findings(file, looks)))


def _findings(file: ConfigFile, looks: Sequence[Look]) -> Iterator[Finding]:
    for look in looks:
        yield from flag_findings(look.subject, look.catalogue, look.reading)


def _no_binary(file: ConfigFile, reason: str) -> Finding:
    return Finding(
        level=Level.ERROR,
        code="binary-unusable",
        instance="",
        place=file.where("master", "llama_cpp_path"),
        message=reason,
        hint="install or build llama.cpp, or correct the path",
    )
