"""What the image holds, and what it must not."""

import json
import subprocess

from tests.parts.container import Stack, docker, ok


def test_commands_are_where_people_look(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    for command in ("infer-dev --version", "command -v check-and-run", "cmake --version", "git --version"):
        ok(box.exec("bash", "-lc", command, user="dev"))
    for name in ("get-llama-cpp-pkg.sh", "install-llama-cpp-pkg.sh", "check-and-run-llama-cpp.sh"):
        ok(box.exec("test", "-x", f"/soft/app/llama-cpp/{name}"))
    assert "infer-dev" in ok(box.exec("bash", "-lic", "complete -p infer-dev", user="dev"))


def test_helper_scripts_are_there_though_a_volume_hides_them(stack: Stack) -> None:
    box = stack.plain("sleep", "infinity", options=("--tmpfs", "/hard/image/app"))
    ok(box.exec("test", "-x", "/soft/app/llama-cpp/check-and-run-llama-cpp.sh"))


def test_neither_key_nor_authority_nor_cache_is_in_it(image: str) -> None:
    find = (
        "/ -xdev ( -name ssh_host_*_key -o -path /run/secrets/ca -o -name pip.conf"
        " -o ( -name .npmrc -not -path */node_modules/npm/* )"
        " -o -path /var/lib/apt/lists/*_Packages -o -path /root/.cache -o -path /root/.npm )"
    )
    assert ok(docker("run", "--rm", "--entrypoint", "find", image, *find.split())) == ""


def test_history_and_labels_tell_no_secret(image: str, engine_environ: dict[str, str]) -> None:
    history = ok(docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image))
    assert engine_environ.get("INFER_DEV_CA", "no CA here") not in history
    (config,) = json.loads(ok(docker("image", "inspect", image)))
    assert config["Config"]["Labels"]["org.opencontainers.image.title"] == "infer-dev"
    assert config["Config"]["Healthcheck"]["Test"]


def test_nobody_but_root_can_change_the_programs(image: str) -> None:
    found = docker(
        "run", "--rm", "--user", "dev", "--entrypoint", "find", image, "/opt", "-writable", "-not", "-type", "l"
    )
    assert found.stdout == ""


def test_banner_shows_on_docker_exec(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    shown = subprocess.run(
        ["script", "-qec", f"docker exec -it {box.name} bash -ic true", "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "infer-dev" in shown.stdout
