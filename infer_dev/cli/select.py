"""`infer-dev select`."""

import os
import sys

from infer_dev.cli.choice import chosen, default_folder
from infer_dev.errors import EXIT_OK


def select(folder: str | None = None) -> int:
    """Choose, then do as `infer-dev up` does."""
    path = chosen(folder or default_folder(os.environ))
    if path is None:
        print("nothing was chosen: nothing is started", file=sys.stderr)
        return EXIT_OK
    from infer_dev.cli.up import up  # noqa: PLC0415 - once something is chosen

    print(f"infer-dev up {path}", file=sys.stderr)
    return up(path)
