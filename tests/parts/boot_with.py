"""Runs boot with another daemon, another program for its steps, or other times: boot_with.py JSON [COMMAND…]."""

import json
import os
import sys
from collections.abc import Sequence

from infer_dev.boot.boot import PROGRAM, Boot
from infer_dev.boot.limits import Limits


def main(parts: str, command: Sequence[str]) -> int:
    """`parts`: `daemon` and `program` are argument lists, `limits` the arguments of `Limits`."""
    given = json.loads(parts)
    return Boot(
        command,
        os.environ,
        program=given.get("program", PROGRAM),
        daemon_argv=given.get("daemon", (*PROGRAM, "daemon")),
        limits=Limits(**given["limits"]) if "limits" in given else None,
    ).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
