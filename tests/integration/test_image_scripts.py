"""The scripts that install dev tools into the image, without a network: a stand-in plays npm."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STAGE_2 = Path(__file__).resolve().parents[2] / "installation" / "stage-2"
TOOLS = ("uv", "pixi", "node", "bun", "claude-code", "codex", "litellm", "vllm")

# Makes PREFIX/bin/claude, which tells the version asked for, writable by the group and with a note of the registry,
# as npm does. $NPM_FAILS: breaks off half-way.
NPM = """#!/bin/bash
echo "$@" >>"$CALLS"
while (($#)); do
  case $1 in
    --prefix) prefix=$2 ;;
    --cache) mkdir -p "$2/_logs" ;;
  esac
  last=$1
  shift
done
mkdir -p "$prefix/bin" "$prefix/lib/node_modules"
echo '{"resolved": "https://npm.example/x.tgz"}' >"$prefix/lib/node_modules/.package-lock.json"
[[ -z ${NPM_FAILS:-} ]] || exit 1
{
  echo '#!/bin/bash'
  echo '[[ -z ${CLAUDE_FAILS:-} ]] || exit 1'
  echo 'touch "$HOME/.claude"'
  echo "echo '${last##*@} (Claude Code)'"
} >"$prefix/bin/claude"
chmod 0775 "$prefix/bin/claude"
"""


@dataclass
class Image:
    """A folder that stands for the image, with an npm that needs no network."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("programs", "home", "tmp"):
            (self.folder / name).mkdir()
        (self.folder / "programs" / "npm").write_text(NPM)
        (self.folder / "programs" / "npm").chmod(0o755)
        self.settings |= {
            "PATH": f"{self.folder}/programs:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "TOOLS_DIR": str(self.folder / "tools"),
            "TOOLS_BIN_DIR": str(self.folder / "bin"),
            "CALLS": str(self.folder / "calls"),
        }

    def install(self, name: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [str(STAGE_2 / "tools" / f"{name}.sh")]
        return subprocess.run(command, env=self.settings | settings, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def claude(self) -> Path:
        return self.folder / "bin" / "claude"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


class Runner:
    """`tools.sh` beside tools that only tell their name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir()
        (folder / "programs").mkdir()
        (folder / "programs" / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
        shutil.copy(STAGE_2 / "tools.sh", folder)
        for name in TOOLS:
            self.tool(name, f"echo {name}")

    def tool(self, name: str, line: str) -> None:
        path = self.folder / "tools" / f"{name}.sh"
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)

    def __call__(self, *arguments: str, **switches: str) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": str(self.folder / "programs"), **switches}
        command = [str(self.folder / "tools.sh"), *arguments]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize("script", sorted(STAGE_2.parent.rglob("*.sh")), ids=lambda script: script.name)
def test_script_parses(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_tool_has_a_script_and_every_script_is_a_tool() -> None:
    assert {path.stem for path in (STAGE_2 / "tools").iterdir()} == {*TOOLS, "shared"}


@pytest.mark.parametrize("name", TOOLS)
def test_tool_has_a_pinned_version_that_its_variable_changes(name: str) -> None:
    text = (STAGE_2 / "tools" / f"{name}.sh").read_text()
    variable = name.upper().replace("-", "_") + "_VERSION"
    found = re.search(rf'begin {name} "\${{{variable}:-([^}}]+)}}"', text)
    assert found
    default = found[1]
    if default == "$KNOWN":
        default = re.search(r"^readonly KNOWN=(.+)$", text, re.MULTILINE)[1]
    assert re.fullmatch(r"\d+\.\d+\.\d+", default)


def test_runner_installs_what_is_switched_on_in_its_order(run: Runner) -> None:
    done = run(INSTALL_CODEX="1", INSTALL_NODE="1", INSTALL_UV="1", INSTALL_BUN="0", INSTALL_CLAUDE_CODE="")
    assert (done.returncode, done.stdout.split()) == (0, ["uv", "node", "codex"])


def test_runner_installs_nothing_by_itself(run: Runner) -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_runner_refuses_an_unknown_value_before_it_installs_anything(run: Runner) -> None:
    done = run(INSTALL_UV="1", INSTALL_VLLM="yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cannot install the tools: INSTALL_VLLM=yes: set it to 1 or 0\n"


def test_runner_refuses_arguments(run: Runner) -> None:
    done = run("uv")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set INSTALL_UV=1" in done.stderr


@pytest.mark.parametrize("name", ["bun", "claude-code", "codex"])
def test_runner_tells_that_npm_is_missing_before_it_installs_anything(run: Runner, name: str) -> None:
    switch = f"INSTALL_{name.upper().replace('-', '_')}"
    done = run(INSTALL_UV="1", **{switch: "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} needs npm, which is not there: set INSTALL_NODE=1, or {switch}=0" in done.stderr


def test_runner_takes_an_npm_that_is_there(run: Runner) -> None:
    (run.folder / "programs" / "npm").write_text("")
    (run.folder / "programs" / "npm").chmod(0o755)
    done = run(INSTALL_CODEX="1", INSTALL_NODE="0")
    assert (done.returncode, done.stdout) == (0, "codex\n")


def test_runner_ends_with_the_first_tool_that_fails(run: Runner) -> None:
    run.tool("pixi", "exit 7")
    done = run(INSTALL_UV="1", INSTALL_PIXI="1", INSTALL_NODE="1")
    assert (done.returncode, done.stdout) == (7, "uv\n")


def test_tool_is_linked_and_closed_to_others(image: Image) -> None:
    done = image.install("claude-code", CLAUDE_CODE_VERSION="9.8.7")
    assert done.returncode == 0, done.stderr
    assert "claude-code: 9.8.7 installed" in done.stderr
    assert subprocess.check_output([image.claude], env=image.settings, text=True) == "9.8.7 (Claude Code)\n"
    assert os.readlink(image.claude) == str(image.folder / "tools" / "claude-code" / "bin" / "claude")
    for path in (image.folder / "tools").rglob("*"):
        mode = path.stat().st_mode
        assert mode & 0o022 == 0, path
        assert mode & 0o044 == 0o044, path


def test_tool_leaves_no_trace_but_itself(image: Image) -> None:
    before = {path.name for path in image.folder.iterdir()}
    assert image.install("claude-code", NPM_CONFIG_REGISTRY="https://npm.example").returncode == 0
    assert {path.name for path in image.folder.iterdir()} - before == {"tools", "bin", "calls"}
    assert not [*(image.folder / "home").iterdir(), *(image.folder / "tmp").iterdir()]
    files = [path for path in (image.folder / "tools").rglob("*") if path.is_file()]
    assert not [path for path in files if "npm.example" in path.read_text()]


def test_tool_is_installed_once_for_each_version(image: Image) -> None:
    assert image.install("claude-code", CLAUDE_CODE_VERSION="1.0.0").returncode == 0
    again = image.install("claude-code", CLAUDE_CODE_VERSION="1.0.0")
    assert (again.returncode, again.stderr) == (0, "claude-code: 1.0.0 is there already\n")
    assert image.install("claude-code", CLAUDE_CODE_VERSION="2.0.0").returncode == 0
    assert [call.rpartition("@")[2] for call in image.calls] == ["1.0.0", "2.0.0"]
    assert subprocess.check_output([image.claude], env=image.settings, text=True) == "2.0.0 (Claude Code)\n"


def test_tool_that_broke_off_half_way_is_begun_anew(image: Image) -> None:
    assert image.install("claude-code", NPM_FAILS="1").returncode == 1
    assert not image.claude.exists()
    assert image.install("claude-code").returncode == 0
    assert image.claude.exists()


def test_tool_that_does_not_run_here_is_refused(image: Image) -> None:
    done = image.install("claude-code", CLAUDE_FAILS="1")
    assert done.returncode == 1
    assert "cannot install claude-code: claude --version fails on this system" in done.stderr
    assert not image.claude.exists()


def test_pixi_of_another_version_asks_for_its_checksum(image: Image) -> None:
    done = image.install("pixi", PIXI_VERSION="0.1.0")
    assert done.returncode == 1
    assert "no checksum is known for version 0.1.0; set PIXI_SHA256" in done.stderr


def test_pixi_whose_checksum_differs_is_refused(image: Image, tmp_path: Path) -> None:
    archive = tmp_path / "releases" / "v0.81.0" / f"pixi-{os.uname().machine}-unknown-linux-musl.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"something else")
    done = image.install("pixi", PIXI_RELEASES=f"file://{tmp_path}/releases", PIXI_VERSION="0.81.0")
    assert done.returncode == 1
    assert "cannot install pixi: the archive is not the one expected" in done.stderr
    assert not (image.folder / "bin" / "pixi").exists()
