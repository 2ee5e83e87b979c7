"""What boot costs: from `docker run` to the llama-server's exec, beside the same image whose entry only execs it.

`python -m benchmarks.container [--runs N] [--json FILE]`. Needs a Docker engine; builds the image where it is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parts import DEFAULT_CACHE, PartsError, engine

IMAGE = f"{engine.TEST_IMAGE_NAME}:stage-2"
BOUND_MS = 400
DEADLINE_S = 30.0
# Notes the time in nanoseconds as the first thing it does.
SERVER = "#!/bin/sh\ndate +%s%N >/bench/executed.new\nmv /bench/executed.new /bench/executed\nexec sleep 1000\n"
CONFIG = '[master]\nllama_cpp_path = "/bench/llama-server"\n[instance.a.server]\nmodel = "/bench/llama-server"\n'
SWITCHED_ON = ["-e", "AUTO_INFER_LLAMA_CPP_ON_BOOT=1", "-e", "AUTO_INFER_LLAMA_CPP_CONFIG=/bench/it.toml"]
ENTRIES = {
    "boot": [*SWITCHED_ON, IMAGE, "sleep", "infinity"],
    "plain": ["--entrypoint", "/bin/sh", IMAGE, "-c", "exec /bench/llama-server --model /bench/llama-server"],
}


def main() -> int:
    """Measure in turns, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.container", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    try:
        environ = engine.ensure_environment(DEFAULT_CACHE)
    except PartsError as err:
        sys.stderr.write(f"{err.message}\n  hint: {err.hint}\n")
        return err.exit_status
    built = engine.build_test_image(environ)
    if built.returncode:
        sys.stderr.write(built.stderr)
        return built.returncode
    found: dict[str, list[float]] = {name: [] for name in ENTRIES}
    for _ in range(given.runs):
        for name, arguments in ENTRIES.items():
            found[name].append(_until_exec_ms(arguments))
    more = statistics.median(found["boot"]) - statistics.median(found["plain"])
    for name, values in found.items():
        sys.stdout.write(f"{name:<6} median {statistics.median(values):7.1f} ms, min {min(values):7.1f}\n")
    sys.stdout.write(
        f"boot costs {more:.0f} ms more (bound {BOUND_MS}: {'held' if more <= BOUND_MS else 'NOT held'})\n"
    )
    if given.json:
        given.json.write_text(json.dumps({"runs_ms": found, "more_ms": more, "bound_ms": BOUND_MS}, indent=2) + "\n")
    return int(more > BOUND_MS)


def _until_exec_ms(arguments: list[str]) -> float:
    """Start a container; milliseconds until the server ran."""
    with tempfile.TemporaryDirectory(prefix="infer-dev-bench-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        server = folder / "llama-server"
        server.write_text(SERVER)
        server.chmod(0o755)
        (folder / "it.toml").write_text(CONFIG)
        before = time.time_ns()
        container = subprocess.run(
            ["docker", "run", "-d", "-v", f"{folder}:/bench", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()
        try:
            executed = folder / "executed"
            deadline = time.monotonic() + DEADLINE_S
            while not executed.exists():
                if time.monotonic() > deadline:
                    logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False)
                    raise SystemExit(f"cannot see the server started: {logs.stderr}")
                time.sleep(0.005)
            return (int(executed.read_text()) - before) / 1e6
        finally:
            subprocess.run(["docker", "rm", "-f", container], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    sys.exit(main())
