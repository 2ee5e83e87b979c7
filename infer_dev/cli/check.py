"""`infer-dev check`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

from infer_dev.check.finding import Finding, Level, of_several, told_once
from infer_dev.cli.launch import client
from infer_dev.cli.paths import config_path
from infer_dev.cli.text import is_terminal, sanitized
from infer_dev.errors import EXIT_CONFIG, EXIT_OK, InferDevError
from infer_dev.host.printable import printable_line
from infer_dev.settings import BY_ROOT_VAR, other_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from infer_dev.check.report import Report
    from infer_dev.plan.model import Endpoint

DAEMON_TIMEOUT_S = 2.0


def check(config: str | None = None, *, as_json: bool = False, strict: bool = False) -> int:
    """Say what cannot work in a file. Nothing is started but `llama-server --help`."""
    path = os.path.abspath(config_path(config))
    if other_user():
        from infer_dev.cli.account import go_on_as_account  # noqa: PLC0415 - for root only

        go_on_as_account(is_told=True)
    by_root = bool(os.environ.pop(BY_ROOT_VAR, ""))
    from infer_dev.check.resolve import source_of_caller  # noqa: PLC0415 - pydantic
    from infer_dev.check.run import examine, facts  # noqa: PLC0415 - imports all checks

    known = replace(facts(os.environ, _running(path)), makes_log_folders=by_root)
    report = examine(source_of_caller(path, os.environ), known)
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    elif is_terminal(sys.stdout):
        from infer_dev.cli.findings import print_report  # noqa: PLC0415 - rich, on a terminal only

        print_report(report, summary(report))
    else:
        print("\n".join(plain_lines(report)))
    is_bad = report.count(Level.ERROR) or (strict and report.count(Level.WARNING))
    return EXIT_CONFIG if is_bad else EXIT_OK


def plain_lines(report: Report) -> list[str]:
    """The report as other programs read it: a line a finding, `FILE:LINE: level: [instance] key: message`."""
    lines = [plain_line(one, names) for one, names in told_once(report.findings)]
    if len(report.rows) > 1:
        from infer_dev.cli.text import columns  # noqa: PLC0415 - where there is a table

        lines += ["", columns([list(row) for row in report.rows])]
    return [*lines, "", summary(report)] if lines else [summary(report)]


def plain_line(one: Finding, names: Sequence[str]) -> str:
    """One finding in one line."""
    where = f"{one.place.file}:{one.place.line}" if one.place.line else one.place.file
    parts = [where, str(one.level), one.place.key, one.message + of_several(names)]
    text = ": ".join(part for part in parts if part) + (f" ({one.hint})" if one.hint else "")
    return printable_line(text)


def summary(report: Report) -> str:
    """The last line: how many of what, and what it was held against."""
    words = [f"{count} {level}{'s' if count != 1 else ''}" for level in Level if (count := report.count(level))]
    against = f" (held against llama-server {report.version or report.binary})" if report.binary else ""
    return sanitized(f"{report.path}: {', '.join(words) or 'nothing found'}{against}", terminal=True)


def _running(path: str) -> dict[Endpoint, int | None]:
    """The endpoints that are held now and are no obstacle, with the pids that hold them.

    Those of the file's instances that run, of others in a group, who make room for each other, and of the daemon's
    own API, which steps aside.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - for this command only

    from infer_dev.plan.model import Endpoint  # noqa: PLC0415 - imported by the checks as well

    daemon = client()
    try:
        shown = daemon.get("/status", timeout_s=DAEMON_TIMEOUT_S) if daemon.is_alive() else None
    except InferDevError:
        return {}
    if shown is None:
        return {}
    held = [
        (one["host"], one["port"] or 0, one["pid"])
        for one in shown["instances"]
        if one["pid"] and (one["source"] == path or one["group"])
    ]
    urls = [urlsplit(url) for url in shown["daemon"]["api"] if url.startswith("http")]
    held += [(url.hostname or "", url.port or 0, shown["daemon"]["pid"]) for url in urls]
    return {Endpoint(bind_host=host, dial_host=host, port=port): pid for host, port, pid in held}
