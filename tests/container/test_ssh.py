"""Logging in: by key, as `dev`, into the container's environment; and every other way refused."""

import re
import subprocess

from tests.conftest import eventually
from tests.parts.container import Container, Stack, docker, ok


def host_key(box: Container) -> str:
    """What a client is shown."""

    def scanned() -> str:
        return subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(box.ports[22]), "127.0.0.1"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    return str(eventually(scanned)).split()[-1]


def test_command_runs_as_dev_in_the_container_s_environment(stack: Stack) -> None:
    box = stack.run(
        "sleep", "infinity", passed={"SECRET": 'a "b" \\c #d', "AUTO_INFER_LLAMA_CPP_CONFIG": "/x y.toml"}
    )
    box.wait_for_ssh()
    env = dict(line.split("=", 1) for line in ok(box.ssh("env")).splitlines())
    assert (env["USER"], env["HOME"]) == ("dev", "/home/dev")
    assert (env["SECRET"], env["AUTO_INFER_LLAMA_CPP_CONFIG"]) == ('a "b" \\c #d', "/x y.toml")
    in_container = ok(box.exec("printenv", "PATH"))
    assert env["PATH"] == in_container
    assert ok(box.ssh("bash -lc 'echo $PATH'")) == in_container
    assert "SECRET" not in ok(box.exec("sh", "-c", "grep -rs SECRET /etc /run 2>/dev/null || true", user="dev"))
    assert ok(box.ssh("sudo -n id -un")) == "root"


def test_terminal_shows_what_runs(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    box.wait_for_ssh()
    seen = subprocess.run(
        [*box.ssh_command(), "-tt"], input="tty; exit\n", capture_output=True, text=True, timeout=60, check=False
    ).stdout
    assert "/dev/pts/" in seen
    assert re.search(r"infer-dev \S+ · daemon pid \d+ up", seen), seen


def test_everything_but_the_key_of_dev_is_refused(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    box.wait_for_ssh()
    ok(box.exec("sh", "-c", "mkdir -p /root/.ssh && cp /run/infer-dev-sshd/authorized_keys /root/.ssh/"))
    assert "Permission denied (publickey)" in box.ssh("true", user="root").stderr
    no_key = ("-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=0")
    assert "Permission denied (publickey)" in box.ssh("true", options=no_key).stderr


def test_no_key_is_in_the_image_and_two_containers_differ(stack: Stack) -> None:
    options = ("-e", f"INFER_DEV_SSH_KEYS={stack.key.with_suffix('.pub').read_text().strip()}")
    first = stack.plain("sleep", "infinity", options=options)
    first.wait_for_ssh()
    known = host_key(first)
    ok(docker("restart", "-t", "5", first.name))
    assert host_key(first) == known
    ok(docker("rm", "-f", "-v", first.name))
    second = stack.plain("sleep", "infinity", options=options)
    second.wait_for_ssh()
    assert host_key(second) != known


def test_container_made_anew_by_compose_keeps_its_key(stack: Stack) -> None:
    first = stack.run("sleep", "infinity")
    first.wait_for_ssh()
    known = host_key(first)
    ok(docker("rm", "-f", first.name))
    assert host_key(stack.run("sleep", "infinity")) == known


def test_sshd_that_dies_comes_back(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    box.wait_for_ssh()
    ok(box.exec("pkill", "-KILL", "-f", "sshd.*listener"))
    box.wait_for_ssh()


def test_sshd_does_not_start_with_a_configuration_of_somebody_else(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    box.wait_for_ssh()
    ok(box.exec("chown", "dev", "/run/infer-dev-sshd"))
    ok(box.exec("pkill", "-KILL", "-f", "sshd.*listener"))
    eventually(lambda: "/run/infer-dev-sshd is not root's" in box.logs())
    assert box.ssh("true").returncode != 0
