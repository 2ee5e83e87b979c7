"""`make screenshots`: pictures of the real dashboard over real servers that work, as SVG into docs/images."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from infer_dev.cli.plan import plan_lines
from infer_dev.dashboard.app import Dashboard
from infer_dev.dashboard.link import Link
from infer_dev.dashboard.picture import Place
from infer_dev.settings import RUNTIME_DIR_VAR, socket_path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
PORT = 18080
SIZE = (120, 34)
SMALL = (80, 24)
SETTLE_S = 6.0
DEADLINE_S = 30.0
MOST_BYTES = 150_000
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # they would be fetched from elsewhere
TEXT = """\
[master]
llama_cpp_path = "{folder}/llama.cpp/bin/llama-server"
api_port = 0
[instance.control]
log_dir = "{folder}/logs"
[instance.server]
metrics = true
[instance.chat.server]
model = "{folder}/models/qwen-tiny.gguf"
port = 18080
alias = "chat"
[instance.embed.server]
model = "{folder}/models/embed-tiny.gguf"
port = 18081
embeddings = true
[instance.coder.control]
group = "big"
[instance.coder.server]
model = "{folder}/models/coder-tiny.gguf"
port = 18082
[instance.writer.control]
group = "big"
autostart = false
[instance.writer.server]
model = "{folder}/models/writer-tiny.gguf"
port = 18082
[instance.broken.control]
autostart = false
[instance.broken.server]
model = "{folder}/models/not-there.gguf"
port = 18083
"""


def main() -> None:
    """Set up, take the pictures, take down."""
    with tempfile.TemporaryDirectory(prefix="rack-") as name:
        folder = Path(name)
        env = os.environ | {RUNTIME_DIR_VAR: str(folder / "run")}
        _lay_out(folder)
        try:
            _infer_dev(env, "up", "--keep-going", str(folder / "rack.toml"))
            _infer_dev(env, "start", "--no-wait", "broken")
            asyncio.run(_take(socket_path(str(folder / "run"))))
        finally:
            _infer_dev(env, "down")


def _lay_out(folder: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tests.parts", "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    parts = json.loads(made.stdout)
    (folder / "models").mkdir()
    (folder / "logs").mkdir()
    (folder / "llama.cpp").symlink_to(Path(parts["llama_server"]).parents[1])
    for name in ("qwen", "embed", "coder", "writer"):
        (folder / "models" / f"{name}-tiny.gguf").symlink_to(parts["model"])
    (folder / "rack.toml").write_text(TEXT.format(folder=folder))


def _infer_dev(env: Mapping[str, str], *args: str) -> None:
    command = [sys.executable, "-m", "infer_dev", *args]
    subprocess.run(command, cwd=ROOT, env=dict(env), check=False, stdout=subprocess.DEVNULL)


async def _take(socket: str) -> None:
    """All panels while requests run, the picker, a switch, a check, and a small screen with a search."""
    app = Dashboard(Link(Place(socket=socket)), plan_lines)
    async with app.run_test(size=SIZE) as pilot, asyncio.TaskGroup() as tasks:
        load = [tasks.create_task(asyncio.to_thread(_ask)) for _ in range(2)]
        await pilot.pause(SETTLE_S)
        _save(app, "dashboard")
        await asyncio.gather(*load)
        await pilot.press("m")
        await _shown(app, "#pick-list")
        await pilot.pause(1.0)
        await pilot.press(*"writ")
        await pilot.pause(1.0)
        _save(app, "picker")
        await pilot.press("enter")
        await _shown(app, "#switch-text")
        end = time.monotonic() + DEADLINE_S
        while "serves" not in app.export_screenshot() and time.monotonic() < end:
            await pilot.pause(0.1)
        _save(app, "switch")
        await pilot.press("escape", "c")
        end = time.monotonic() + DEADLINE_S
        while "held against" not in app.export_screenshot().replace("&#160;", " ") and time.monotonic() < end:
            await pilot.pause(0.1)
        _save(app, "check")
        await pilot.press("escape")
        await pilot.resize_terminal(*SMALL)
        await pilot.press("down", "slash", *"error")
        await pilot.pause(2.0)
        _save(app, "small")


async def _shown(app: Dashboard, what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not app.screen.query(what) and time.monotonic() < end:
        await asyncio.sleep(0.05)


def _ask() -> None:
    """Requests one after another, for as long as the first picture needs."""
    body = json.dumps({"prompt": "a", "n_predict": 500, "ignore_eos": True}).encode()
    headers = {"Content-Type": "application/json"}
    end = time.monotonic() + SETTLE_S + 1
    while time.monotonic() < end:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/completion", body, headers)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            answer.read()


def _save(app: Dashboard, name: str) -> None:
    drawn = FONTS.sub("", app.export_screenshot(title="infer-dev dashboard"))
    drawn = "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"
    if len(drawn.encode()) > MOST_BYTES:
        message = f"cannot keep {name}.svg: {len(drawn)} bytes are more than {MOST_BYTES}"
        raise SystemExit(message)
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{name}.svg").write_text(drawn)


if __name__ == "__main__":
    main()
