"""The container as a PeiDocker project: generated, built and run. It offers what docker-compose.yml offers."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, chat, eventually
from tests.parts import DEFAULT_CACHE
from tests.parts.container import Done, Stack, docker, ok
from tests.parts.engine import BUILD_TIMEOUT_S, HERE

GENERATE = ROOT / "installation" / "peidocker" / "generate.sh"
# In a virtual environment of its own: it brings a web framework and some 45 packages, pinned by nobody.
PEI_DOCKER = "pei-docker==2.0.1"
# Old engines know no `host-gateway` while they build; nor can every engine fetch the frontend of a `# syntax=` line.
OLD_ENGINE = """\
services:
  stage-1:
    build: {extra_hosts: !reset []}
  stage-2:
    build: {extra_hosts: !reset []}
"""
ALIAS = "a=b=c"
SWITCHED_ON = {
    "AUTO_INFER_LLAMA_CPP_ON_BOOT": "1",
    "AUTO_INFER_LLAMA_CPP_CONFIG": "/model-configs/demo.toml",
    "AUTO_INFER_LLAMA_CPP_OVERRIDES": json.dumps({"instance": {"alpha": {"server": {"alias": ALIAS}}}}),
}


@dataclass(frozen=True)
class Project:
    """A generated project and how to call Compose for it."""

    folder: Path
    environ: dict[str, str]

    def shown(self, **settings: str) -> dict[str, object]:
        """What Compose makes of the files."""
        return json.loads(ok(docker("compose", "config", "--format", "json", env=self.environ | settings)))


def generate(folder: Path, environ: dict[str, str]) -> Done:
    return subprocess.run([GENERATE, folder], env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def pei_docker() -> Path:
    """PeiDocker's command line."""
    folder = DEFAULT_CACHE / PEI_DOCKER
    cli = folder / "bin" / "pei-docker-cli"
    if not cli.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PEI_DOCKER,
        ]
        if subprocess.run(pip, check=False).returncode:
            pytest.skip(f"{PEI_DOCKER} cannot be had: pip says why")
    return cli


@pytest.fixture(scope="session")
def project(engine_environ: dict[str, str], pei_docker: Path) -> Project:
    """The project for a machine without GPUs, always in the same place: the engine knows again what it has built."""
    folder = DEFAULT_CACHE / "peidocker"
    environ = engine_environ | {"PEI_DOCKER_CLI": str(pei_docker)}
    done = generate(folder, environ)
    assert done.returncode == 0, done.stderr
    files = ["docker-compose.yml", "docker-compose.override.yml"]
    return Project(folder, environ | {"COMPOSE_FILE": os.pathsep.join(str(folder / name) for name in files)})


@pytest.fixture(scope="session")
def built(project: Project) -> Project:
    """The project, with both of its images built."""
    for name in ("stage-1.Dockerfile", "stage-2.Dockerfile"):
        path = project.folder / name
        path.write_text(path.read_text().replace("# syntax=docker/dockerfile:1\n", ""))
    old_engine = project.folder / "old-engine.yml"
    old_engine.write_text(OLD_ENGINE)
    files = os.pathsep.join([project.environ["COMPOSE_FILE"], str(old_engine)])
    one = Project(project.folder, project.environ | {"COMPOSE_FILE": files})
    # One after the other: stage-2 is built upon the image of stage-1, which Compose does not know.
    for stage in ("stage-1", "stage-2"):
        ok(docker("compose", "build", stage, env=one.environ, timeout_s=BUILD_TIMEOUT_S))
    return one


@pytest.fixture
def serving_by_pei(serving: Stack, built: Project) -> Stack:
    """A model and a llama-server, as for our own image, but for PeiDocker's."""
    serving.environ["COMPOSE_FILE"] = built.environ["COMPOSE_FILE"]
    return serving


def ours(engine_environ: dict[str, str], **settings: str) -> dict[str, object]:
    shown = ok(docker("compose", "config", "--format", "json", env=engine_environ | settings))
    return json.loads(shown)["services"]["stage-2"]


def packages(script: Path) -> list[str]:
    """What a script, or a Dockerfile, has apt-install.sh install."""
    found = re.search(r'apt-install\.sh"? \\\n(.*?[^\\])\n', script.read_text(), re.DOTALL)
    assert found, script
    return re.findall(r"[a-z][a-z0-9.-]+", found[1].partition("&&")[0])


def test_system_layer_holds_the_packages_of_the_dockerfile() -> None:
    expected = packages(HERE / "Dockerfile")
    assert "openssh-server" in expected
    assert packages(GENERATE.with_name("system.sh")) == expected


def test_ports_and_variables_are_those_of_the_compose_file(engine_environ: dict[str, str], project: Project) -> None:
    theirs = project.shown()["services"]["stage-2"]
    own = ours(engine_environ)
    assert theirs["ports"] == own["ports"]
    assert theirs["environment"].keys() == own["environment"].keys()
    assert theirs["stop_grace_period"] == own["stop_grace_period"]
    assert theirs["shm_size"] == own["shm_size"]


def test_folders_are_those_of_the_compose_file(
    engine_environ: dict[str, str], project: Project, tmp_path: Path
) -> None:
    names = ("WORKSPACE", "SSH_DIR", "CONFIGS", "MODEL_DIR", "PACKAGES")
    settings = {f"INFER_DEV_{name}": str(tmp_path / name) for name in names} | {"INFER_DEV_MODEL_NAME": "some"}

    def folders(service: dict[str, object]) -> set[tuple[str, str, bool]]:
        binds = [one for one in service["volumes"] if one["type"] == "bind"]
        return {(one["source"], one["target"], one.get("read_only", False)) for one in binds}

    expected = folders(ours(engine_environ, **settings))
    assert len(expected) == len(names)
    assert folders(project.shown(**settings)["services"]["stage-2"]) == expected


def test_default_folders_are_those_of_the_compose_file(engine_environ: dict[str, str], project: Project) -> None:
    def folders(service: dict[str, object], generated: Path) -> set[str]:
        return {os.path.relpath(one["source"], generated) for one in service["volumes"] if one["type"] == "bind"}

    # The project lies elsewhere here than it does for people.
    theirs = folders(project.shown()["services"]["stage-2"], project.folder)
    assert theirs == folders(ours(engine_environ), HERE / ".peidocker")


def test_gpus_are_asked_for_unless_the_variant_has_none(
    engine_environ: dict[str, str], pei_docker: Path, tmp_path: Path
) -> None:
    environ = engine_environ | {"PEI_DOCKER_CLI": str(pei_docker), "INFER_DEV_VARIANT": "cuda"}
    assert generate(tmp_path, environ).returncode == 0
    service = Project(tmp_path, environ | {"COMPOSE_FILE": str(tmp_path / "docker-compose.yml")}).shown()["services"]
    (device,) = service["stage-2"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"


def test_generating_again_changes_nothing(project: Project) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(project.folder.rglob("*")) if path.is_file()}

    assert generate(project.folder, project.environ).returncode == 0
    before = files()
    assert generate(project.folder, project.environ).returncode == 0
    assert files() == before


def test_unknown_variant_is_refused(engine_environ: dict[str, str], tmp_path: Path) -> None:
    done = generate(tmp_path, engine_environ | {"PEI_DOCKER_CLI": "true", "INFER_DEV_VARIANT": "rocm"})
    assert done.returncode == 1
    assert "INFER_DEV_VARIANT=rocm: set it to cuda or cpu" in done.stderr


def test_missing_peidocker_is_told(engine_environ: dict[str, str], tmp_path: Path) -> None:
    done = generate(tmp_path, engine_environ | {"PEI_DOCKER_CLI": "no-such-cli"})
    assert done.returncode == 1
    assert f"pipx install {PEI_DOCKER}, or set PEI_DOCKER_CLI" in done.stderr


def test_instances_answer_and_the_workspace_stays_as_it_is(serving_by_pei: Stack) -> None:
    modes = {path: path.stat().st_mode for path in serving_by_pei.folder.joinpath("workspace").rglob("*")}
    box = serving_by_pei.run("sleep", "infinity", env=SWITCHED_ON)
    box.wait_until_ready("alpha", "beta")
    assert chat(serving_by_pei.ports[8080])
    assert chat(serving_by_pei.ports[8000])
    assert ok(box.exec("readlink", "/soft/app", "/soft/data", "/soft/workspace")).split() == [
        "/hard/image/app",
        "/hard/image/data",
        "/hard/volume/workspace",
    ]
    assert {path: path.stat().st_mode for path in modes} == modes


def test_variable_keeps_what_follows_its_second_equals_sign(serving_by_pei: Stack) -> None:
    box = serving_by_pei.run("sleep", "infinity", env=SWITCHED_ON)
    box.wait_until_ready("alpha")
    assert json.loads(ok(box.exec("curl", "-fsS", "http://127.0.0.1:8080/v1/models")))["data"][0]["id"] == ALIAS


def test_boot_is_process_1_and_instances_belong_to_dev(serving_by_pei: Stack) -> None:
    box = serving_by_pei.run("sleep", "infinity", env=SWITCHED_ON)
    pid = box.wait_until_ready("alpha")["alpha"]["pid"]
    assert ok(box.exec("ps", "-o", "args=", "1")).endswith("infer-dev boot -- sleep infinity")
    assert ok(box.exec("ps", "-o", "user=", str(pid))) == "dev"


def test_login_by_key_alone_sees_the_environment(serving_by_pei: Stack) -> None:
    box = serving_by_pei.run("sleep", "infinity", env=SWITCHED_ON)
    box.wait_for_ssh()
    assert ok(box.ssh("printenv", "AUTO_INFER_LLAMA_CPP_CONFIG")) == "/model-configs/demo.toml"
    assert len(box.pids("sshd: /usr/sbin/sshd")) == 1
    by_password = box.ssh(
        "true", options=("-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no")
    )
    assert "Permission denied (publickey)" in by_password.stderr
    # Those that PeiDocker made while it built, and wrote to its output.
    assert box.exec("sh", "-c", "ls /home/dev/.ssh /etc/ssh/ssh_host_*").stdout == ""


def test_stop_ends_with_the_command(serving_by_pei: Stack) -> None:
    box = serving_by_pei.run("sh", "-c", "trap 'exit 7' TERM; sleep infinity & wait", env=SWITCHED_ON)
    box.wait_until_ready("alpha")
    ok(docker("stop", box.name))
    eventually(lambda: box.inspect("{{.State.Status}}") == "exited")
    assert box.inspect("{{.State.ExitCode}}") == "7"
