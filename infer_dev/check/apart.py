"""All checks in a process of their own, for the daemon: what they import and read is gone with it.

They would take 10 MB of the daemon for good, and a mount that does not answer one of its threads.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infer_dev.check.verdict import Verdict, verdict_from_json
from infer_dev.plan.model import Endpoint, Plan

if TYPE_CHECKING:
    from infer_dev.config.load import ConfigFile

TIMEOUT_S = 60.0
"""Longer than anybody waits for it; what is left then is ended."""
TOLD_BYTES = 2000


def judge_apart(
    file: "ConfigFile", plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None], *, key: str
) -> Verdict:
    """As check/run.py's `judge`, with the file read anew there.

    Raises:
        OSError, RuntimeError, subprocess.TimeoutExpired: nothing could be found out.
    """
    request = {
        "path": file.path,
        "overrides": json.dumps(file.overrides) if file.overrides else None,
        "binary": plan.binary,
        "names": list(names),
        "running": [[one.bind_host, one.dial_host, one.port, pid] for one, pid in running.items()],
        "key": key,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infer_dev.check.apart"],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd="/",
    )
    try:
        return verdict_from_json(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as err:
        told = done.stderr[-TOLD_BYTES:].decode(errors="replace").strip()
        raise RuntimeError(f"the check's process told nothing: {told}") from err


def answer(request: Mapping[str, Any]) -> list[dict[str, Any]]:  # Any: JSON
    """The findings for a request of `judge_apart`."""
    from infer_dev.check.run import judge  # noqa: PLC0415 - the daemon imports this module
    from infer_dev.config.load import load  # noqa: PLC0415 - as above
    from infer_dev.plan.build import build_plan  # noqa: PLC0415 - as above

    file = load(request["path"], request["overrides"])
    plan = build_plan(file, request["binary"], os.environ)
    running = {
        Endpoint(bind_host=bind_host, dial_host=dial_host, port=port): pid
        for bind_host, dial_host, port, pid in request["running"]
    }
    return judge(file, plan, request["names"], running, key=request["key"]).to_json()


def main() -> None:
    """Read a request, write the answer; end with whoever asked."""
    from infer_dev.host.process.subreaper import end_with_parent  # noqa: PLC0415 - as above

    # Not at once: what is asked for its --help meanwhile is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent(signal.SIGTERM)
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
