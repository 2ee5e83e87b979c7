"""`make demo`: the main job on real parts, each step as a user would type it."""

import json
import os
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "model-configs/demo-native.toml"
REQUEST_TIMEOUT_S = 30


def main() -> int:
    """Make the parts, start the instances, ask each for a completion, show how to go on."""
    os.chdir(ROOT)
    parts = json.loads(_output([sys.executable, "-m", "tests.parts", "--json"]))
    infer_dev = str(Path(sys.executable).with_name("infer-dev"))
    environ = _environ_that_finds(Path(parts["llama_server"]))
    _say(f"llama-server: {parts['llama_server']}")
    _say(f"model:        {parts['model']}")
    _step([infer_dev, "up", CONFIG], environ)
    status = json.loads(_output([infer_dev, "status", "--json"]))
    config = str(ROOT / CONFIG)
    instances = [one for one in status["instances"] if one["source"] == config]
    for one in instances:
        answer = chat(one["host"], one["port"])
        _say(f"\n{one['name']} (port {one['port']}) answers: {answer!r}")
    _say("(the model is random numbers; a real one makes sense)\n")
    _step([infer_dev, "status"], environ)
    port = instances[0]["port"]
    name = instances[0]["name"]
    ways = {
        ".venv/bin/infer-dev status": "what runs",
        f".venv/bin/infer-dev logs {name} -f": "its log",
        f".venv/bin/infer-dev restart {name}": "another process",
        f"curl http://127.0.0.1:{port}/v1/models": "the OpenAI-compatible API",
        f"$EDITOR {CONFIG}": "change it, then:",
        f".venv/bin/infer-dev up {CONFIG}": "only what differs is restarted (with the export above, if one is shown)",
    }
    _say("\nGo on:")
    width = max(map(len, ways)) + 2
    for command, what in ways.items():
        _say(f"  {command:<{width}}{what}")
    _say("Stop:\n  make demo-stop")
    return 0


def _environ_that_finds(server: Path) -> dict[str, str]:
    """The environment in which infer-dev runs `server`, as a user would set it: in front of PATH."""
    environ = dict(os.environ)
    if server.name == "llama-server":
        folder = str(server.parent)
        if folder not in environ.get("PATH", "").split(os.pathsep):
            environ["PATH"] = os.pathsep.join([folder, environ.get("PATH", "")])
            _say(f'$ export PATH="{folder}:$PATH"')
    else:
        environ["AUTO_INFER_LLAMA_CPP_OVERRIDES"] = json.dumps({"master": {"llama_cpp_path": str(server)}})
        _say(f"$ export AUTO_INFER_LLAMA_CPP_OVERRIDES='{environ['AUTO_INFER_LLAMA_CPP_OVERRIDES']}'")
    return environ


def chat(host: str, port: int) -> str:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"http://{host}:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _step(command: list[str], environ: Mapping[str, str]) -> None:
    shown = [os.path.relpath(command[0]), *command[1:]]
    _say(f"$ {shlex.join(shown)}")
    subprocess.run(command, check=True, env=dict(environ))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as err:  # the command has told why
        sys.exit(err.returncode)
