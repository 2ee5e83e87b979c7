"""What the documents say is typed as it stands there; only ports, paths and names are this test's own."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT, Parts
from tests.parts.container import COMMAND_TIMEOUT_S, DEV_UID, Container, Stack, ok
from tests.parts.http_client import ask

MODEL = "Qwen2.5-14B-Instruct-GGUF"
CONFIG = "qwen2.5-14b.toml"


def block(document: str, heading: str) -> str:
    """The first block of commands below a heading."""
    below = (ROOT / document).read_text().partition(f"\n{heading}\n")[2]
    found = re.search(r"^```bash\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no commands below {heading!r}"
    return found[1]


def type_in(stack: Stack, commands: str, own: Mapping[str, str]) -> str:
    """Run commands in the repository's root, each of which must succeed; what they print."""
    own = {"dockers/infer-dev/.container/": f"{stack.folder}/", ".container/": f"{stack.folder}/", **own}
    for theirs, ours in own.items():
        commands = commands.replace(theirs, ours)
    return ok(
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=ROOT,
            env=stack.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    )


def expect_model_served(stack: Stack, parts: Parts, archive: Path, commands: str) -> None:
    """The commands bring up a container in which the example's model is served."""
    shutil.copy(parts.model, stack.folder / "models" / "Qwen2.5-14B-Instruct-Q4_K_M.gguf")
    stack.config((ROOT / "model-configs" / CONFIG).read_text(), name=CONFIG)
    name = f"{stack.project}-typed"
    stack.started.append(name)
    own = {
        "~/llama-cpp.tgz": str(archive),
        f"/srv/models/{MODEL}": str(stack.folder / "models"),
        "--name infer ": f"--name {name} ",
        ":11980/": f":{stack.ports[8080]}/",
    }
    assert '"qwen2.5-14b"' in type_in(stack, commands, own)


def test_readme_serves_a_model(stack: Stack, parts: Parts, archive: Path) -> None:
    commands = block("README.md", "## In a container")
    built, _, commands = commands.partition("\n")
    commands, _, entered = commands.partition("docker exec -it")
    assert (built.split("#")[0].strip(), entered.split()[:2]) == ("make image", ["infer", "bash"])
    expect_model_served(stack, parts, archive, commands)


def test_management_api_is_reached_from_the_host_with_its_token_alone(serving: Stack) -> None:
    api_port = int(serving.environ["INFER_DEV_PORT_API"])
    owned = f"api-token\nchown {DEV_UID} {serving.folder}/workspace/api-token)\n"
    own = {"api-token)\n": owned, f"/model-configs/{CONFIG}": "/model-configs/demo.toml", ":11982/": f":{api_port}/"}
    serving.started.append(f"{serving.project}-stage-2-1")
    shown = type_in(serving, block("docs/container.md", "### Ports"), own)
    assert "http://0.0.0.0:8081" in json.loads(shown)["daemon"]["api"]
    box = Container(serving.started[-1], serving.ports, serving.key)
    box.wait_until_ready("alpha")
    assert ask(api_port, "/status").status == 401
    assert ask(api_port, "/status", token="0" * 64).status == 401
    token = (serving.folder / "workspace" / "api-token").read_text().strip()
    assert ask(api_port, "/instances/alpha/stop", method="POST", body={}, token=token).status == 200
    own_address = box.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    assert ask(8081, "/status", token=token, host=own_address).json()["instances"][0]["state"] == "stopped"
    assert ask(8081, "/status", host=own_address).status == 401
    assert token not in box.logs() + box.inspect("{{json .Config}}")
