"""A Docker engine to build and run the image on: what is there is used, what is missing is made where it can be.

`python -m tests.parts.engine` says what there is; `--start` starts dockerd where it is installed and nobody has,
`--build` builds the image that the tests run.
Compose and buildx come from a Debian suite (only their plugins), the base image from an image registry or, where
none can be reached, from debootstrap.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import DEFAULT_CACHE, PartsError, debian_suite

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parents[2] / "dockers" / "infer-dev"
TEST_IMAGE_NAME = "infer-dev-test"
SUITE = "trixie"
BASE_IMAGE = f"debian:{SUITE}"
PLUGINS = {"compose": "docker-compose", "buildx": "docker-buildx"}
PATH_IN_IMAGE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
START_TIMEOUT_S = 60
PULL_TIMEOUT_S = 120
BUILD_TIMEOUT_S = 1200
HINT = "install and start one: apt-get install docker.io debootstrap, then `python -m tests.parts.engine --start`"


def require_engine() -> None:
    """Check that an engine answers.

    Raises:
        PartsError: there is no client, or no engine that it reaches.
    """
    if shutil.which("docker") is None:
        raise PartsError("cannot find docker on PATH", hint=HINT)
    answer = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise PartsError(f"cannot reach a Docker engine: {answer.stderr.strip()}", hint=HINT)


def start_engine(cache: Path) -> None:
    """Start dockerd in the background if no engine answers; it goes on after this process.

    Raises:
        PartsError: it is not installed, or does not come up.
    """
    try:
        require_engine()
    except PartsError:
        dockerd = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if dockerd is None or os.geteuid():
            raise
        cache.mkdir(parents=True, exist_ok=True)
        log = cache / "dockerd.log"
        with log.open("ab") as output:
            nothing = subprocess.DEVNULL
            subprocess.Popen([dockerd], stdin=nothing, stdout=output, stderr=output, start_new_session=True)
        _wait_for_engine(log)


def ensure_environment(cache: Path) -> dict[str, str]:
    """The environment in which `docker compose` builds the small image here, with what must differ on this machine.

    `INFER_DEV_BASE_IMAGE` of the caller is kept: all that uses this then runs on that base.

    Raises:
        PartsError: no engine, or Compose or the base image cannot be had.
    """
    require_engine()
    environ = {"INFER_DEV_BASE_IMAGE": BASE_IMAGE, **os.environ, "INFER_DEV_VARIANT": "cpu"}
    if not all(_has_plugin(name) for name in PLUGINS):
        environ["DOCKER_CONFIG"] = str(_ensure_plugins(cache))
    if CA_BUNDLE.exists():
        environ.setdefault("INFER_DEV_CA", str(CA_BUNDLE))
    if environ["INFER_DEV_BASE_IMAGE"] == BASE_IMAGE:
        _ensure_base(cache)
    return environ


def build_test_image(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Build the image that the tests run, as a user would."""
    return subprocess.run(
        ["docker", "compose", "build", "stage-2"],
        cwd=HERE,
        env={**environ, "INFER_DEV_IMAGE_NAME": TEST_IMAGE_NAME},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )


def _wait_for_engine(log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            require_engine()
        except PartsError as err:
            if time.monotonic() > deadline:
                raise PartsError(f"cannot start dockerd: {err.message}", hint=f"its log: {log}") from err
            time.sleep(0.2)
        else:
            return


def _has_plugin(name: str) -> bool:
    return subprocess.run(["docker", name, "version"], capture_output=True, check=False).returncode == 0


def _ensure_plugins(cache: Path) -> Path:
    """A folder for DOCKER_CONFIG that has the plugins; the user's own stays as it is."""
    config = cache.absolute() / "docker"
    plugins = config / "cli-plugins"
    if not all((plugins / f"docker-{name}").exists() for name in PLUGINS):
        debian_suite.require_apt()
        root = cache.absolute() / "docker.root"
        debs = debian_suite.download(tuple(PLUGINS.values()), suite=SUITE, state=cache.absolute() / "apt-docker")
        debian_suite.unpack(debs, root)
        plugins.mkdir(parents=True, exist_ok=True)
        for name in PLUGINS:
            shutil.copy2(root / "usr/libexec/docker/cli-plugins" / f"docker-{name}", plugins)
        shutil.rmtree(root)
    return config


def _ensure_base(cache: Path) -> None:
    """Have the base image, from a registry if one can be reached."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "base-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # made by one, waited for by the others
        if not _succeeds(["docker", "image", "inspect", BASE_IMAGE]):
            _get_base(cache)


def _get_base(cache: Path) -> None:
    if _succeeds(["docker", "pull", "--quiet", BASE_IMAGE]):
        return
    debootstrap = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if debootstrap is None or os.geteuid():
        raise PartsError(
            f"cannot pull {BASE_IMAGE}, nor make it",
            hint="let the engine reach an image registry, or install debootstrap and run this as root",
        )
    etc_apt = Path("/etc/apt")
    root = cache.absolute() / "base-image"
    tried = []
    for mirror in debian_suite.mirrors(etc_apt):
        shutil.rmtree(root, ignore_errors=True)
        done = subprocess.run(
            [debootstrap, "--variant=minbase", SUITE, str(root), mirror], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            _import(root)
            shutil.rmtree(root)
            return
        tried.append((done.stderr or done.stdout).strip().rpartition("\n")[2])
    why = "; ".join(tried) or "no mirror of Debian is configured"
    raise PartsError(f"cannot make {BASE_IMAGE}: {why}", hint=HINT)


def _import(root: Path) -> None:
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "import", "--change", f"ENV PATH={PATH_IN_IMAGE}", "-", BASE_IMAGE],
            stdin=tar.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _succeeds(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False, timeout=PULL_TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    """Say what there is, or start it."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts.engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--start", action="store_true", help="start dockerd if no engine answers")
    parser.add_argument("--build", action="store_true", help=f"build {TEST_IMAGE_NAME}:stage-2")
    given = parser.parse_args()
    try:
        if given.start:
            start_engine(DEFAULT_CACHE)
        environ = ensure_environment(DEFAULT_CACHE)
    except PartsError as err:
        sys.stderr.write(f"{err.message}\n  hint: {err.hint}\n")
        return err.exit_status
    if given.build:
        return build_test_image(environ).returncode
    sys.stdout.write(f"a Docker engine answers, with Compose, buildx and {BASE_IMAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
