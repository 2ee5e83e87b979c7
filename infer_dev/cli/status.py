"""`infer-dev status`."""

from __future__ import annotations

import json
import sys
import time

from infer_dev.api.client import status_target
from infer_dev.cli.launch import client
from infer_dev.cli.progress import failure_report
from infer_dev.cli.rows import HEADERS, row
from infer_dev.cli.text import columns, is_terminal
from infer_dev.errors import EXIT_FAILED, EXIT_OK

TYPE_CHECKING = False


WATCH_S = 1.0


def status(*names: str, as_json: bool = False, watch: bool = False) -> int:
    """Show the instances; exit status 1 if one of those shown has failed."""
    daemon = client()
    target = status_target(names)
    terminal = is_terminal(sys.stdout)
    if watch and terminal and not as_json:
        from infer_dev.cli.table import watch_table  # noqa: PLC0415 - rich, on a terminal only

        return watch_table(lambda: daemon.get(target)["instances"], every_s=WATCH_S)
    while True:
        answer = daemon.get(target)
        instances = answer["instances"]
        if as_json:
            print(json.dumps(answer, ensure_ascii=False, indent=None if watch else 2), flush=True)
        elif terminal:
            from infer_dev.cli.table import print_table  # noqa: PLC0415 - rich, on a terminal only

            print_table(instances)
        else:
            print(columns([HEADERS, *(row(one) for one in instances)]), flush=True)
        failed = [one for one in instances if one["state"] == "failed"]
        if not watch:
            if failed and not as_json:
                print(failure_report(failed), file=sys.stderr)
            return EXIT_FAILED if failed else EXIT_OK
        time.sleep(WATCH_S)
