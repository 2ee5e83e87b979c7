"""`infer-dev dashboard`."""

from __future__ import annotations

import os
import sys

from infer_dev.cli.text import is_terminal
from infer_dev.errors import EXIT_OK, UsageError
from infer_dev.settings import runtime_dir

TOKEN_VAR = "INFER_DEV_API_TOKEN"  # noqa: S105 - the variable's name


def dashboard(*, url: str | None = None, token_file: str | None = None, plain: bool = False) -> int:
    """Show the terminal dashboard, or with `plain` a table in lines."""
    from infer_dev.dashboard.link import Link  # noqa: PLC0415 - asyncio, for this command only
    from infer_dev.dashboard.picture import Place  # noqa: PLC0415 - as above

    token = _token(token_file)
    link = Link(Place(url=url, token=token) if url else Place.of_runtime(runtime_dir()))
    if plain:
        from infer_dev.cli.plain import watch_plain  # noqa: PLC0415 - for this only

        return watch_plain(link)
    if not all(is_terminal(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError(
            "cannot show the dashboard: this is no terminal that could", hint="--plain prints lines instead"
        )
    from infer_dev.cli.plan import plan_lines  # noqa: PLC0415 - as above
    from infer_dev.dashboard.app import Dashboard  # noqa: PLC0415 - textual, as above

    app = Dashboard(link, plan_lines)
    app.run()
    return app.return_code or EXIT_OK


def _token(path: str | None) -> str:
    if path is None:
        return os.environ.get(TOKEN_VAR, "").strip()
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeError) as err:
        raise UsageError(f"cannot read the token: {path}: {err}") from err
