"""What is wrong at boot never takes the shell away, and is told wherever one looks."""

import tarfile
from pathlib import Path

from tests.conftest import eventually
from tests.parts.container import Container, Stack

ON_BOOT, CONFIG = "AUTO_INFER_LLAMA_CPP_ON_BOOT", "AUTO_INFER_LLAMA_CPP_CONFIG"
GET_PKG, PKG_PATH = "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT", "AUTO_INFER_LLAMA_CPP_PKG_PATH"


def expect_told_everywhere(box: Container, cause: str) -> None:
    """The container is up, SSH works, and the cause stands on `docker logs`, in the banner and in the status."""
    box.wait_for_ssh()
    eventually(lambda: cause in box.logs())
    eventually(lambda: cause in (shown := box.exec("infer-dev", "status")).stdout + shown.stderr)
    eventually(lambda: cause in box.exec("infer-dev", "banner").stdout)
    assert box.inspect("{{.State.Running}}") == "true"


def test_bad_toml(stack: Stack) -> None:
    path = stack.config("[instance.a.server\n")
    expect_told_everywhere(stack.run("sleep", "infinity", passed={ON_BOOT: "1", CONFIG: path}), "it.toml")


def test_missing_configuration(stack: Stack) -> None:
    box = stack.run("sleep", "infinity", passed={ON_BOOT: "1", CONFIG: "/model-configs/none.toml"})
    expect_told_everywhere(box, "none.toml")


def test_missing_archive(stack: Stack) -> None:
    box = stack.run("sleep", "infinity", passed={GET_PKG: "1", PKG_PATH: "/packages/none.tgz"})
    expect_told_everywhere(box, "none.tgz")


def test_hostile_archive(stack: Stack, tmp_path: Path) -> None:
    escape = tmp_path / "escape"
    escape.write_text("x")
    with tarfile.open(stack.folder / "packages" / "evil.tgz", "w:gz") as archive:
        archive.add(escape, "../../../../etc/evil")
    box = stack.run("sleep", "infinity", passed={GET_PKG: "1", PKG_PATH: "/packages/evil.tgz"})
    expect_told_everywhere(box, "evil.tgz")
    assert box.exec("ls", "/etc/evil").returncode != 0


def test_no_model_mounted(serving: Stack) -> None:
    (serving.folder / "models" / "tiny.gguf").unlink()
    box = serving.run("sleep", "infinity", passed={ON_BOOT: "1", CONFIG: "/model-configs/demo.toml"})
    box.wait_for_ssh()
    eventually(lambda: "model-not-found" in box.exec("infer-dev", "status").stdout)
    eventually(lambda: "model-not-found" in box.exec("infer-dev", "banner").stdout)
    assert "model-not-found" in box.logs()
