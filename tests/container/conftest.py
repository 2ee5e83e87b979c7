"""The real image on a real engine: built once, run in projects of its own, on ports of its own."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Parts
from tests.parts import DEFAULT_CACHE, PartsError, engine, llama_bundle
from tests.parts.container import DEV_UID, IMAGE, PORT_VARIABLES, Stack, ok

TEST_TIMEOUT_S = 300
MEMLOCK_BYTES = 8 << 20  # as much as an engine grants that may not raise limits itself


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A container's start and stop take their time where two cores do all the work, and so does the build."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))


@pytest.fixture(scope="session")
def engine_environ() -> dict[str, str]:
    """The environment for `docker compose` on this machine."""
    try:
        environ = engine.ensure_environment(DEFAULT_CACHE)
    except PartsError as err:
        pytest.skip(f"no Docker engine: {err.message}; {err.hint}")
    kept = {name: value for name, value in environ.items() if not name.startswith("AUTO_INFER_")}
    return kept | {"INFER_DEV_IMAGE_NAME": engine.TEST_IMAGE_NAME, "INFER_DEV_MEMLOCK": str(MEMLOCK_BYTES)}


@pytest.fixture(scope="session")
def image(engine_environ: dict[str, str]) -> str:
    """The small variant of the image, as `docker compose build stage-2` makes it."""
    ok(engine.build_test_image(engine_environ))
    return IMAGE


@pytest.fixture(scope="session")
def archive(engine_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama.cpp bundle as people mount it."""
    del engine_environ
    bundle = llama_bundle.ensure_bundle(DEFAULT_CACHE)
    path = tmp_path_factory.mktemp("packages") / "llama-cpp.tgz"
    subprocess.run(["tar", "-C", str(bundle.parent), "-czf", str(path), bundle.name], check=True)
    return path


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key made for this run; the public one lies beside it."""
    path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


@pytest.fixture
def stack(
    tmp_path: Path, engine_environ: dict[str, str], image: str, key: Path, free_port: Callable[[], int]
) -> Iterator[Stack]:
    """A project with empty folders; the authorized key is known."""
    del image
    ports = {port: free_port() for port in PORT_VARIABLES}
    environ = engine_environ | {variable: str(ports[port]) for port, variable in PORT_VARIABLES.items()}
    environ |= {
        "INFER_DEV_PROJECT": f"infer-dev-test-{uuid.uuid4().hex[:8]}",
        "INFER_DEV_PORT_API": str(free_port()),
        "INFER_DEV_WORKSPACE": str(tmp_path / "workspace"),
        "INFER_DEV_SSH_DIR": str(tmp_path / "ssh"),
        "INFER_DEV_CONFIGS": str(tmp_path / "configs"),
        "INFER_DEV_MODEL_DIR": str(tmp_path / "models"),
        "INFER_DEV_MODEL_NAME": "demo",
        "INFER_DEV_PACKAGES": str(tmp_path / "packages"),
        "INFER_DEV_SHM_SIZE": "64mb",
    }
    one = Stack(tmp_path, environ, ports, key, environ["INFER_DEV_PROJECT"])
    yield one
    one.end()


@pytest.fixture
def serving(stack: Stack, parts: Parts) -> Stack:
    """A project with a model, and a llama-server where one built from source would be."""
    shutil.copy(parts.model, stack.folder / "models" / "tiny.gguf")
    build = stack.folder / "workspace" / "llama-cpp" / "build"
    shutil.copytree(llama_bundle.ensure_bundle(DEFAULT_CACHE), build)
    os.chown(stack.folder / "workspace", DEV_UID, DEV_UID)
    stack.config((ROOT / "model-configs" / "demo.toml").read_text(), name="demo.toml")
    return stack
