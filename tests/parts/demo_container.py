"""`make demo-container`: the container's main job on real parts, each step as a user would type it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.parts import DEFAULT_CACHE, PartsError, engine, llama_bundle, tiny_model
from tests.parts.demo import chat

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "dockers" / "infer-dev"
PROJECT = os.environ.get("INFER_DEV_PROJECT", "infer-dev-demo")
CONTAINER = PROJECT
READY_TIMEOUT_S = 60
PORT, SSH_PORT = os.environ.get("INFER_DEV_PORT_8080", "11980"), os.environ.get("INFER_DEV_PORT_SSH", "11922")
MEMLOCK_BYTES = 8 << 20


class StepError(Exception):
    """A command failed; it has said why itself."""


def main() -> int:
    """Build, run, ask, log in, stop."""
    try:
        environ = engine.ensure_environment(DEFAULT_CACHE)
        with tempfile.TemporaryDirectory(prefix="infer-dev-demo-") as folder:
            return _demo(Path(folder), environ)
    except PartsError as err:
        sys.stderr.write(f"{err.message}\n  hint: {err.hint}\n")
        return err.exit_status
    except StepError as err:
        sys.stderr.write(f"{err}\n")
        return 1


def _demo(folder: Path, environ: Mapping[str, str]) -> int:
    _say("$ make image-cpu")
    started = time.monotonic()
    _run(["docker", "compose", "build", "--quiet", "stage-2"], environ)
    _say(f"  built in {time.monotonic() - started:.0f} s")
    key = _prepare(folder)
    environ = {
        **environ,
        "INFER_DEV_PROJECT": PROJECT,
        "INFER_DEV_WORKSPACE": str(folder / "workspace"),
        "INFER_DEV_SSH_DIR": str(folder / "ssh"),
        "INFER_DEV_MODEL_DIR": str(folder / "models"),
        "INFER_DEV_MODEL_NAME": "demo",
        "INFER_DEV_PACKAGES": str(folder / "packages"),
        "INFER_DEV_CONFIGS": str(ROOT / "model-configs"),
        "INFER_DEV_MEMLOCK": os.environ.get("INFER_DEV_MEMLOCK", str(MEMLOCK_BYTES)),
        "INFER_DEV_SHM_SIZE": "64mb",
    }
    try:
        _serve(environ, key)
    finally:
        _quietly(["docker", "rm", "-f", CONTAINER], environ)
        _quietly(["docker", "compose", "down", "-v"], environ)
    _say("\nWith a model of yours: docs/container.md")
    return 0


def _prepare(folder: Path) -> Path:
    """The folders that are mounted: model, bundle, public key; returns the private key."""
    for name in ("workspace", "ssh", "models", "packages"):
        (folder / name).mkdir()
    model = tiny_model.ensure(DEFAULT_CACHE)
    shutil.copy(model, folder / "models" / "tiny.gguf")
    bundle = llama_bundle.ensure_bundle(DEFAULT_CACHE)
    archive = folder / "packages" / "llama-cpp.tgz"
    subprocess.run(["tar", "-C", str(bundle.parent), "-czf", str(archive), bundle.name], check=True)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shutil.copy(key.with_suffix(".pub"), folder / "ssh" / "authorized_keys")
    return key


def _serve(environ: Mapping[str, str], key: Path) -> None:
    settings = {
        "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT": "1",
        "AUTO_INFER_LLAMA_CPP_PKG_PATH": "/packages/llama-cpp.tgz",
        "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
        "AUTO_INFER_LLAMA_CPP_CONFIG": "/model-configs/demo.toml",
    }
    flags = [word for item in settings.items() for word in ("-e", "=".join(item))]
    run = ["docker", "compose", "run", "-d", "--service-ports", "--name", CONTAINER]
    _step([*run, *flags, "stage-2", "sleep", "infinity"], environ)
    _wait_until_ready(environ)
    _step(["docker", "exec", CONTAINER, "infer-dev", "status"], environ)
    _say(f"$ curl http://127.0.0.1:{PORT}/v1/chat/completions …\n  {chat('127.0.0.1', int(PORT))!r}")
    _say("  (the model is random numbers; a real one makes sense)")
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    login = ["ssh", "-F", "none", "-i", str(key), "-p", SSH_PORT, *options, "dev@127.0.0.1"]
    _step([*login, "infer-dev banner"], environ)
    _step(["docker", "stop", CONTAINER], environ)
    last = _quietly(["docker", "logs", "--tail", "1", CONTAINER], environ).strip()
    _say(f"$ docker logs --tail 1 {CONTAINER}\n{last}")


def _wait_until_ready(environ: Mapping[str, str]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        shown = subprocess.run(
            ["docker", "exec", CONTAINER, "infer-dev", "status", "--json"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        instances = json.loads(shown)["instances"] if shown else []
        if instances and all(one["state"] == "ready" for one in instances):
            return
        if time.monotonic() > deadline:
            raise StepError(f"cannot see the instances ready:\n{_quietly(['docker', 'logs', CONTAINER], environ)}")
        time.sleep(0.2)


def _step(command: list[str], environ: Mapping[str, str]) -> None:
    _say(f"\n$ {shlex.join(command)}")
    _run(command, environ)


def _run(command: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=HERE, env=dict(environ), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise StepError(f"cannot go on: `{shlex.join(command[:3])} …` ended with {done.returncode}")


def _quietly(command: list[str], environ: Mapping[str, str]) -> str:
    return subprocess.run(
        command,
        cwd=HERE,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
