"""`python -m tests.parts`: makes the real parts where they are missing and prints where they are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import DEFAULT_CACHE, PartsError, llama_bundle, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW_S = 0.5  # what takes longer is worth a line on stderr


def main() -> int:
    options = _parser().parse_args()
    wanted: dict[str, Callable[[Path], Path]] = {"llama_server": llama_bundle.ensure, "model": tiny_model.ensure}
    if options.bundle != options.model:
        del wanted["model" if options.bundle else "llama_server"]
    try:
        parts = {name: str(_timed(name, ensure, options.cache)) for name, ensure in wanted.items()}
    except PartsError as err:
        print(f"{err.message}\nhint: {err.hint}", file=sys.stderr)
        return err.exit_status
    lines = [json.dumps(parts)] if options.json else [f"{name}={path}" for name, path in parts.items()]
    print("\n".join(lines))
    return 0


def _timed(name: str, ensure: Callable[[Path], Path], cache: Path) -> Path:
    started = time.monotonic()
    path = ensure(cache)
    took_s = time.monotonic() - started
    if took_s > SLOW_S:
        print(f"made {name} in {took_s:.1f} s", file=sys.stderr)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.parts", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where parts are kept (default: .cache)")
    parser.add_argument("--bundle", action="store_true", help="only llama-server")
    parser.add_argument("--model", action="store_true", help="only the model")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of name=path lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
