"""`python -m tests.soak --minutes 30`: see `tests.soak.run`."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.parts import DEFAULT_CACHE, PartsError, llama_bundle, tiny_model
from tests.soak.rack import Parts
from tests.soak.run import Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9), help="repeat a run")
    parser.add_argument("--folder", type=Path, help="where to keep its files (default: one that is removed after)")
    options = parser.parse_args()
    try:
        parts = Parts(str(llama_bundle.ensure(DEFAULT_CACHE)), str(tiny_model.ensure(DEFAULT_CACHE)))
    except PartsError as err:
        print(f"{err.message}\nhint: {err.hint}", file=sys.stderr)
        return err.exit_status
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return 0 if Soak(folder, parts, seconds=options.minutes * 60, seed=options.seed).run() else 1


if __name__ == "__main__":
    sys.exit(main())
