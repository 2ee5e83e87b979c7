"""What the README promises of `docker compose`: instances on boot, with a bundle, by hand, for root and for `dev`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, chat, eventually
from tests.parts.container import Stack, ok

ON = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": "/model-configs/demo.toml"}
CONFIG_ONLY = {"AUTO_INFER_LLAMA_CPP_CONFIG": ON["AUTO_INFER_LLAMA_CPP_CONFIG"]}
GET_PKG = {
    "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT": "true",
    "AUTO_INFER_LLAMA_CPP_PKG_PATH": "/packages/llama-cpp.tgz",
}
WAYS_TO_RUN = ["check-and-run", "/soft/app/llama-cpp/check-and-run-llama-cpp.sh"]


def test_variables_given_with_e_start_the_instances(serving: Stack) -> None:
    box = serving.run("sleep", "infinity", passed=ON)
    box.wait_until_ready("alpha", "beta")
    assert chat(serving.ports[8080])
    assert chat(serving.ports[8000])


def test_variables_in_front_of_compose_start_the_instances(serving: Stack) -> None:
    box = serving.run("sleep", "infinity", env=ON)
    box.wait_until_ready("alpha", "beta")
    assert chat(serving.ports[8080])


def test_bundle_is_installed_before_the_instances_start(serving: Stack, archive: Path) -> None:
    shutil.rmtree(serving.folder / "workspace" / "llama-cpp")
    shutil.copy(archive, serving.folder / "packages")
    box = serving.run("sleep", "infinity", passed=ON | GET_PKG)
    found = box.wait_until_ready("alpha", "beta")
    assert chat(serving.ports[8080])
    assert "/soft/app/llama-cpp/bin/" in ok(box.exec("cat", f"/proc/{found['alpha']['pid']}/cmdline"))


def test_nothing_starts_by_itself_until_check_and_run(serving: Stack) -> None:
    box = serving.run("sleep", "infinity", env=CONFIG_ONLY)
    eventually(lambda: '"instances": []' in box.exec("infer-dev", "status", "--json").stdout)
    assert box.pids("llama-server.bin") == []
    ok(box.exec("check-and-run"))
    assert chat(serving.ports[8080])


@pytest.mark.parametrize("way", WAYS_TO_RUN)
def test_root_and_dev_reach_the_same_daemon(serving: Stack, way: str) -> None:
    box = serving.run("sleep", "infinity", env=CONFIG_ONLY)
    ok(box.exec(way))
    by_root = box.status()
    ok(box.exec(way, user="dev"))
    assert {name: one["pid"] for name, one in box.status().items()} == {
        name: one["pid"] for name, one in by_root.items()
    }
    assert ok(box.exec("infer-dev", "status", "--json", user="dev"))
    owners = ok(box.exec("stat", "-c", "%U", f"/proc/{by_root['alpha']['pid']}", str(by_root["alpha"]["log_file"])))
    assert owners.split() == ["dev", "dev"]


def test_log_folder_named_in_the_file_is_made_for_dev(serving: Stack) -> None:
    path = serving.config(
        '[instance.control]\nlog_dir = "/var/log/infer/deep"\n'
        '[instance.a.server]\nmodel = "/llm-models/demo/tiny.gguf"\nport = 8080\n'
    )
    box = serving.run("sleep", "infinity", passed=ON | {"AUTO_INFER_LLAMA_CPP_CONFIG": path})
    box.wait_until_ready("a")
    assert ok(box.exec("stat", "-c", "%U", "/var/log/infer/deep")) == "dev"


def test_fresh_workspace_belongs_to_dev_and_nobody_else_may_write(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    assert ok(box.exec("stat", "-Lc", "%U %a", "/soft/workspace")) == "dev 755"
    ok(box.exec("touch", "/soft/workspace/mine", user="dev"))


def test_workspace_of_somebody_else_is_told_and_left(stack: Stack) -> None:
    (stack.folder / "workspace" / "theirs").touch()
    box = stack.run("sleep", "infinity")
    eventually(lambda: "belongs to UID 0" in box.logs())
    assert (stack.folder / "workspace").stat().st_uid == 0


def test_instances_have_no_privilege_at_all(serving: Stack) -> None:
    box = serving.run("sleep", "infinity", passed=ON)
    pid = box.wait_until_ready("alpha")["alpha"]["pid"]
    status = ok(box.exec("cat", f"/proc/{pid}/status"))
    assert "CapEff:\t0000000000000000" in status


def test_gpu_variant_asks_for_all_gpus_and_cpu_for_none(stack: Stack) -> None:
    assert "capabilities" in ok(stack.compose("config", env={"INFER_DEV_VARIANT": "cuda"}))
    assert "capabilities" not in ok(stack.compose("config"))


def test_published_ports_are_on_loopback_only(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    bound = box.inspect("{{range $p, $b := .NetworkSettings.Ports}}{{range $b}}{{.HostIp}} {{end}}{{end}}")
    assert set(bound.split()) == {"127.0.0.1"}


def test_demo_shows_the_main_job(stack: Stack) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "tests.parts.demo_container"],
        cwd=ROOT,
        env=stack.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "alpha ready http://127.0.0.1:8080" in shown.stdout  # in the banner, by SSH
    assert "everything has ended in order; exit status 143" in shown.stdout
