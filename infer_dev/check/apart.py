"""All checks in a process of their own, for the daemon: what they import and read is gone with it.

They would take 10 MB of the daemon for good, and a mount that does not answer one of its threads.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infer_dev.check.verdict import Verdict, verdict_from_json
from infer_dev.errors import ConfigError, InferDevError
from infer_dev.plan.model import Endpoint, Plan, Source

if TYPE_CHECKING:
    from infer_dev.config.load import ConfigFile

TIMEOUT_S = 60.0
"""Longer than anybody waits for it; what is left then is ended."""
TOLD_BYTES = 2000
MOST_BYTES = 8 * 1024 * 1024  # of a report: what 60 instances are told of takes 100 KB
COMMAND = (sys.executable, "-P", "-m", "infer_dev.check.apart")
Running = Mapping[Endpoint, int | None]


def judge_apart(file: "ConfigFile", plan: Plan, names: Sequence[str], running: Running, *, key: str) -> Verdict:
    """As check/run.py's `judge`, with the file read anew there.

    Raises:
        OSError, RuntimeError, subprocess.TimeoutExpired: nothing could be found out.
    """
    request = {
        "path": file.path,
        "overrides": json.dumps(file.overrides) if file.overrides else None,
        "binary": plan.binary,
        "names": list(names),
        "running": _listed(running),
        "key": key,
    }
    done = subprocess.run(
        COMMAND, input=json.dumps(request).encode(), capture_output=True, timeout=TIMEOUT_S, check=False, cwd="/"
    )
    try:
        return verdict_from_json(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as err:
        raise RuntimeError(f"the check's process told nothing: {_end_of(done.stderr)}") from err


@dataclass(frozen=True, slots=True)
class Told:
    """What a process told, as it is sent on: it is not taken apart here.

    Attributes:
        status: of HTTP: 200, or that of an error.
        body: JSON: the report as `check --json` has it, or a problem document.
    """

    status: int
    body: bytes


class Errand:
    """The report on a file, made by a process of its own; it can be called off from another thread."""

    def __init__(self, source: Source, running: Running) -> None:
        """`running`: the endpoints that are held now and are no obstacle, with the pids that hold them."""
        self._request = {
            "path": source.path,
            "overrides": source.overrides,
            "search_path": source.search_path,
            "running": _listed(running),
        }
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_off = False

    def run(self) -> Told:
        """Wait until the process has ended, however long that takes.

        Raises:
            OSError: it cannot be started.
            RuntimeError: it told nothing, or was called off.
        """
        with self._lock:
            if self._is_off:
                raise RuntimeError("called off")
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(COMMAND, cwd="/", stdin=pipe, stdout=pipe, stderr=pipe)
        said, complaints = self._child.communicate(json.dumps(self._request).encode())
        # Not by its exit status: the daemon reaps what it finds among its children, and that one would be lost.
        head, _, body = said.partition(b"\n")
        status, _, length = head.partition(b" ")
        if not status.isdigit() or length != b"%d" % len(body):
            raise RuntimeError(f"the check's process told nothing: {_end_of(complaints)}")
        return Told(int(status), body)

    def call_off(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process, if it has not ended: SIGTERM, then it ends what it has asked for its --help, too."""
        with self._lock:
            self._is_off = True
            if self._child is not None:
                self._child.send_signal(number)


def _listed(running: Running) -> list[list[object]]:
    return [[one.bind_host, one.dial_host, one.port, pid] for one, pid in running.items()]


def _end_of(complaints: bytes) -> str:
    return complaints[-TOLD_BYTES:].decode(errors="replace").strip()


def answer(request: Mapping[str, Any]) -> list[dict[str, Any]]:  # Any: JSON
    """The findings for a request of `judge_apart`."""
    from infer_dev.check.run import judge  # noqa: PLC0415 - the daemon imports this module
    from infer_dev.config.load import load  # noqa: PLC0415 - as above
    from infer_dev.plan.build import build_plan  # noqa: PLC0415 - as above

    file = load(request["path"], request["overrides"])
    plan = build_plan(file, request["binary"], os.environ)
    return judge(file, plan, request["names"], _running(request), key=request["key"]).to_json()


def report(request: Mapping[str, Any]) -> Told:  # Any: JSON
    """The answer to a request of an `Errand`."""
    source = Source(path=request["path"], overrides=request["overrides"], search_path=request["search_path"])
    try:
        body = json.dumps(_examined(source, _running(request)), ensure_ascii=False)
        data = body.encode(errors="backslashreplace")  # as api/http.py does
        if len(data) > MOST_BYTES:
            raise ConfigError(
                f"cannot tell all that is found in {source.path}: it would be {len(data)} bytes",
                hint=f"run `infer-dev check {source.path}`",
            )
    except InferDevError as err:
        return Told(err.http_status, json.dumps(err.as_problem()).encode())
    return Told(200, data)


def _examined(source: Source, running: Running) -> dict[str, Any]:  # Any: JSON
    from infer_dev.config.load import MistakesError, load  # noqa: PLC0415 - the daemon imports this module

    try:
        load(source.path, source.overrides)
    except MistakesError as err:  # told without what looks at models and at the machine: half of the time
        from infer_dev.check.report import report_of_mistakes  # noqa: PLC0415 - as above

        return report_of_mistakes(source.path, err).to_json()
    from infer_dev.check.run import examine, facts  # noqa: PLC0415 - as above

    return examine(source, facts(os.environ, running)).to_json()


def _running(request: Mapping[str, Any]) -> dict[Endpoint, int | None]:  # Any: JSON
    return {
        Endpoint(bind_host=bind_host, dial_host=dial_host, port=port): pid
        for bind_host, dial_host, port, pid in request["running"]
    }


def main() -> None:
    """Read a request, write the answer; end with whoever asked."""
    from infer_dev.host.process.subreaper import end_with_parent  # noqa: PLC0415 - as above

    # Not at once: what is asked for its --help meanwhile is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent(signal.SIGTERM)
    request = json.load(sys.stdin)
    if "names" in request:
        sys.stdout.write(json.dumps(answer(request)))
        return
    told = report(request)
    sys.stdout.buffer.write(b"%d %d\n%s" % (told.status, len(told.body), told.body))


if __name__ == "__main__":
    main()
