"""The ways people run containers: under an init, as another user, read-only; and a daemon that dies inside."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import chat, eventually
from tests.parts.container import Stack, ok

ON = ("-e", "AUTO_INFER_LLAMA_CPP_ON_BOOT=1", "-e", "AUTO_INFER_LLAMA_CPP_CONFIG=/model-configs/demo.toml")
WRITABLE = ("--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/var/lib/infer-dev/ssh")
MODES = {
    "as-pid-1": [],
    "under-an-init": ["--init"],
    "as-another-user": ["--user", "1234"],
    "read-only": ["--read-only", *WRITABLE],
    "without-any-capability-as-dev": ["--user", "dev", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
}


def mounts(stack: Stack) -> list[str]:
    """The folders of a project, as `docker run` takes them."""
    pairs = {"workspace": "/hard/volume/workspace", "models": "/llm-models/demo:ro", "configs": "/model-configs:ro"}
    return [word for name, target in pairs.items() for word in ("-v", f"{stack.folder / name}:{target}")]


@pytest.mark.parametrize("how", MODES.values(), ids=MODES.keys())
def test_instances_serve(serving: Stack, how: Sequence[str]) -> None:
    box = serving.plain("sleep", "infinity", options=(*ON, *mounts(serving), *how))
    box.wait_until_ready("alpha", "beta")
    assert chat(serving.ports[8080])


def test_bundle_goes_where_another_user_can_write(serving: Stack, archive: Path) -> None:
    shutil.rmtree(serving.folder / "workspace" / "llama-cpp")
    shutil.copy(archive, serving.folder / "packages")
    mounted = ("-v", f"{serving.folder / 'packages'}:/packages:ro")
    switched_on = ("-e", "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT=1")
    named = ("-e", "AUTO_INFER_LLAMA_CPP_PKG_PATH=/packages/llama-cpp.tgz")
    box = serving.plain(
        "sleep", "infinity", options=(*ON, *mounts(serving), *mounted, *switched_on, *named, "--user", "1234")
    )
    box.wait_until_ready("alpha")
    assert ok(box.exec("stat", "-Lc", "%u", "/soft/app/llama-cpp/bin/llama-server")) == "1234"


def test_killed_daemon_is_back_and_instances_never_stopped(serving: Stack) -> None:
    box = serving.plain("sleep", "infinity", options=(*ON, *mounts(serving)))
    before = box.wait_until_ready("alpha", "beta")
    (daemon,) = box.pids("infer_dev daemon")
    ok(box.exec("kill", "-KILL", str(daemon)))
    assert chat(serving.ports[8080])
    eventually(lambda: [pid for pid in box.pids("infer_dev daemon") if pid != daemon])
    after = box.wait_until_ready("alpha", "beta")
    assert {name: one["pid"] for name, one in after.items()} == {name: one["pid"] for name, one in before.items()}
    assert all(one["adopted"] for one in after.values())


def test_health_follows_the_instances(serving: Stack) -> None:
    health = ("--health-interval", "1s", "--health-start-period", "0s", "--health-retries", "1")
    box = serving.plain("sleep", "infinity", options=(*ON, *mounts(serving), *health))
    eventually(lambda: box.inspect("{{.State.Health.Status}}") == "healthy")
    ok(box.exec("mv", "/hard/volume/workspace/llama-cpp", "/hard/volume/workspace/gone"))
    ok(box.exec("sh", "-c", "infer-dev restart alpha || true"))
    eventually(lambda: box.inspect("{{.State.Health.Status}}") == "unhealthy")


@pytest.mark.parametrize("user", ["", "root", "4711"])
def test_daemon_may_be_another_user_s_than_the_image_s(serving: Stack, user: str) -> None:
    options = (*ON, *mounts(serving), "-e", f"INFER_DEV_USER={user}")
    box = serving.plain("sleep", "infinity", options=options)
    pid = box.wait_until_ready("alpha")["alpha"]["pid"]
    assert ok(box.exec("stat", "-c", "%u", f"/proc/{pid}")) == (user if user.isdecimal() else "0")


def test_sudo_knows_the_settings_and_leaves_what_is_installed_to_dev(serving: Stack, archive: Path) -> None:
    shutil.copy(archive, serving.folder / "packages")
    overrides = '{"instance": {"control": {"log_dir": "/tmp/it\'s $HOME"}}}'
    settings = {"PKG_PATH": "/packages/llama-cpp.tgz", "OVERRIDES": overrides}
    given = [word for name, value in settings.items() for word in ("-e", f"AUTO_INFER_LLAMA_CPP_{name}={value}")]
    mounted = ("-v", f"{serving.folder / 'packages'}:/packages:ro")
    box = serving.plain("sleep", "infinity", options=(*mounted, *given))
    ok(box.exec("sudo", "infer-dev", "bundle", "install", user="dev"))
    assert ok(box.exec("sudo", "printenv", "AUTO_INFER_LLAMA_CPP_OVERRIDES", user="dev")) == overrides
    assert ok(box.exec("stat", "-Lc", "%U", "/soft/app/llama-cpp/bin/llama-server")) == "dev"
