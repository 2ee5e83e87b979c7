"""Bundles installed, listed, rolled back and removed by the command line."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli, Parts, chat, eventually
from tests.parts.bundles import FORMATS, LAYOUTS, laid_out, leftovers, pack, real_bundle, small, version_of

pytestmark = pytest.mark.real


class Bundle:
    """`infer-dev bundle …` with a prefix of its own."""

    def __init__(self, cli: Cli, prefix: Path) -> None:
        self.cli, self.prefix = cli, prefix

    def __call__(self, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return self.cli("bundle", *args, "--prefix", self.prefix, **env)

    def ok(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        done = self(*args)
        assert done.returncode == 0, done.stderr
        return done

    def versions(self) -> list[dict[str, object]]:
        return json.loads(self.ok("list", "--json").stdout)["versions"]

    def current(self) -> dict[str, object]:
        (one,) = [one for one in self.versions() if one["current"]]
        return one


@pytest.fixture
def bundle(cli: Cli, tmp_path: Path) -> Bundle:
    return Bundle(cli, tmp_path / "prefix")


@pytest.fixture(scope="module")
def real(parts: Parts) -> Path:
    folder = real_bundle(parts.server)
    if not (folder / "README.md").is_file():
        pytest.fail(f"{folder} is no bundle; unset LLAMA_SERVER for this test")
    return folder


def rack(path: Path, parts: Parts, port: int, server: Path | str) -> Path:
    path.write_text(
        f"""
[master]
llama_cpp_path = "{server}"
[instance.a.control]
log_dir = "{path.parent}"
[instance.a.server]
host = "127.0.0.1"
model = "{parts.model}"
port = {port}
"""
    )
    return path


CASES = [(form, "one-folder") for form in FORMATS] + [
    (".tgz", layout) for layout in LAYOUTS if layout != "one-folder"
]


@pytest.mark.parametrize(("form", "layout"), CASES)
def test_real_bundle_of_every_format_and_layout_serves(  # noqa: PLR0917 - fixtures
    cli, bundle, parts, real, tmp_path, free_port, form, layout
):
    archive = pack(laid_out(real, layout, tmp_path), tmp_path / f"llama{form}")
    done = bundle.ok("install", archive)
    assert "installed llama.cpp 0.7.0 (build 11669; cpu, rpc)" in done.stderr
    assert done.stdout == ""
    assert (bundle.prefix / "cache" / archive.name).read_bytes() == archive.read_bytes()
    port = free_port()
    up = cli("up", rack(tmp_path / "a.toml", parts, port, bundle.prefix / "llama-cpp/bin/llama-server"))
    assert up.returncode == 0, up.stderr
    assert chat(port)
    assert leftovers(bundle.prefix) == []


def test_fallback_chain_finds_what_was_installed(cli, parts, real, tmp_path, free_port):
    if Path("/soft/app").is_dir():
        pytest.skip("/soft/app is here, and would be written to")
    archive = pack(laid_out(real, "root", tmp_path), tmp_path / "llama.tar")
    done = cli("bundle", "install", AUTO_INFER_LLAMA_CPP_PKG_PATH=str(archive), PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    shown = cli("config", "show", "--argv", rack(tmp_path / "a.toml", parts, free_port(), ""))
    assert json.loads(shown.stdout)["argv"][0] == str(tmp_path / "data/infer-dev/llama-cpp/bin/llama-server")


def test_restart_takes_the_new_version_and_what_runs_keeps_the_old(  # noqa: PLR0917 - fixtures
    cli, bundle, parts, real, tmp_path, free_port
):
    top = laid_out(real, "root", tmp_path)
    bundle.ok("install", pack(top, tmp_path / "one.tar"))
    cli("up", rack(tmp_path / "a.toml", parts, free_port(), bundle.prefix / "llama-cpp/bin/llama-server"))
    old = bundle.current()
    assert old["in_use"] == [cli.status()["a"]["pid"]]
    (top / "more.txt").write_text("another version")
    done = bundle.ok("install", pack(top, tmp_path / "two.tar"))
    assert "1 running process(es) keep their version" in done.stderr
    refused = bundle("remove", old["id"])
    assert refused.returncode == 1
    assert f"cannot remove {old['id']}: running processes use it (pid {cli.status()['a']['pid']})" in refused.stderr
    assert bundle.ok("prune", "--keep", "1").stdout == ""
    assert chat(int(str(cli.status()["a"]["port"])))
    assert cli("restart", "a").returncode == 0
    assert bundle.current()["in_use"] == [cli.status()["a"]["pid"]]
    assert bundle.ok("remove", old["id"]).returncode == 0
    assert [one["id"] for one in bundle.versions()] == [bundle.current()["id"]]


def test_same_archive_again_is_known_without_reading_it(cli, bundle, tmp_path):
    padding_bytes = 32 << 20
    archive = small(tmp_path / "a.tar", 1, padding_bytes=padding_bytes)
    bundle.ok("install", archive)
    code = (
        "import sys; from infer_dev.cli.main import main; status = main(sys.argv[1:]); "
        "print(status, open('/proc/self/io').readline().split()[1])"  # all bytes read, cached or not
    )
    argv = [sys.executable, "-c", code, "bundle", "install", str(archive), "--prefix", str(bundle.prefix)]
    done = subprocess.run(argv, env=cli.env, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "installed already: llama.cpp b1" in done.stderr
    status, read_bytes = done.stdout.split()
    assert status == "0"
    assert int(read_bytes) < padding_bytes


def test_same_archive_again_imports_no_option_parser_whatever_way_it_is_named(bundle, tmp_path):
    archive = small(tmp_path / "a.tgz", 1)
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    where = ("--prefix", str(tmp_path / "data/infer-dev"))
    assert bundle.cli("bundle", "install", archive, *where, **data).returncode == 0
    named = {"AUTO_INFER_LLAMA_CPP_PKG_PATH": str(archive)}
    for args, env in (((str(archive),), {}), ((), named), ((str(archive), *where), {}), (where, named)):
        code = (
            "import sys; before = set(sys.modules); from infer_dev.cli.main import main; "
            f"status = main(['bundle', 'install', *{list(args)!r}]); "
            "print(status, {'click', 'dataclasses', 'subprocess'} & set(sys.modules) - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=bundle.cli.env | data | env, capture_output=True, text=True, check=True
        )
        assert (done.stdout, "installed already" in done.stderr) == ("0 set()\n", True)


def test_changed_archive_under_the_same_name_is_noticed(bundle, tmp_path):
    archive = small(tmp_path / "a.tgz", 1)
    bundle.ok("install", archive)
    before = os.stat(archive)
    small(archive, 2)
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "installed llama.cpp b2" in bundle.ok("install", archive).stderr
    assert version_of(bundle.prefix) == "2"


def test_archive_changed_in_place_at_the_same_size_and_time_is_noticed(bundle, tmp_path):
    one, two = small(tmp_path / "1.tgz", 1).read_bytes(), small(tmp_path / "2.tgz", 2).read_bytes()
    archive = tmp_path / "a.tgz"
    size = max(len(one), len(two))
    archive.write_bytes(one.ljust(size, b"\0"))
    if bundle("install", archive).returncode:
        pytest.fail("padding behind gzip data is refused; this test needs another way to keep the size")
    before = os.stat(archive)
    with archive.open("r+b") as file:
        file.write(two.ljust(size, b"\0"))
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(archive)
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    bundle.ok("install", archive)
    assert version_of(bundle.prefix) == "2"


def test_copy_of_the_same_archive_makes_no_second_version(bundle, tmp_path):
    archive = small(tmp_path / "a.tgz", 1)
    bundle.ok("install", archive)
    tree = bundle.prefix / "llama-cpp-versions" / str(bundle.current()["id"]) / "unpacked"
    inode = tree.stat().st_ino
    (tmp_path / "b.tgz").write_bytes(archive.read_bytes())
    bundle.ok("install", tmp_path / "b.tgz")
    assert len(bundle.versions()) == 1
    assert tree.stat().st_ino == inode
    assert "installed already" in bundle.ok("install", tmp_path / "b.tgz").stderr


def test_damaged_version_is_repaired_by_installing_it_again(bundle, tmp_path):
    archive = small(tmp_path / "a.tgz", 1)
    bundle.ok("install", archive)
    (bundle.prefix / "llama-cpp/bin/llama-server").unlink()
    bundle.ok("install", archive)
    assert version_of(bundle.prefix) == "1"
    assert leftovers(bundle.prefix) == []


def test_digest_is_insisted_on(bundle, tmp_path):
    archive = small(tmp_path / "a.tgz", 1)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    wrong = bundle("install", archive, "--sha256", "0" * 64)
    assert wrong.returncode == 1
    assert f"its SHA-256 is {digest}, not {'0' * 64}" in wrong.stderr
    assert bundle.versions() == []
    bundle.ok("install", archive, "--sha256", digest.upper())
    assert bundle("install", archive, "--sha256", "0" * 64).returncode == 1
    assert "installed already" in bundle.ok("install", archive, f"--sha256={digest}").stderr


def test_limit_is_kept(bundle, tmp_path):
    refused = bundle("install", small(tmp_path / "a.tgz", 1, padding_bytes=100_000), "--limit", "50000")
    assert (refused.returncode, bundle.versions(), leftovers(bundle.prefix)) == (1, [], [])
    assert refused.stderr.startswith("infer-dev: cannot")


def test_rollback_goes_to_the_one_before_and_back(bundle, tmp_path):
    archives = [small(tmp_path / f"{number}.tgz", number) for number in (1, 2, 3)]
    for archive in archives:
        bundle.ok("install", archive)
    assert version_of(bundle.prefix) == "3"
    began = time.monotonic()
    assert "current is llama.cpp b2" in bundle.ok("rollback").stderr
    assert time.monotonic() - began < 1
    assert version_of(bundle.prefix) == "2"
    bundle.ok("rollback")
    assert version_of(bundle.prefix) == "3"
    first = next(one for one in bundle.versions() if one["build"] == 1)
    bundle.ok("rollback", str(first["id"])[:6])
    assert version_of(bundle.prefix) == "1"
    assert "current already" in bundle.ok("rollback", str(first["id"])).stderr
    # Installing an archive that is among the versions is a switch, without reading it.
    bundle.ok("install", archives[2])
    assert version_of(bundle.prefix) == "3"
    assert len(bundle.versions()) == 3


def test_rollback_with_nothing_to_go_to_says_so(bundle, tmp_path):
    bundle.ok("install", small(tmp_path / "a.tgz", 1))
    nothing = bundle("rollback")
    assert (nothing.returncode, "cannot roll back: no other version" in nothing.stderr) == (2, True)
    unknown = bundle("rollback", "zzz")
    assert (unknown.returncode, "cannot tell which version 'zzz' is" in unknown.stderr) == (2, True)


def test_rollback_to_one_that_no_longer_runs_switches_nothing(bundle, tmp_path):
    for number in (1, 2):
        bundle.ok("install", small(tmp_path / f"{number}.tgz", number))
    first = next(one for one in bundle.versions() if one["build"] == 1)
    server = bundle.prefix / "llama-cpp-versions" / str(first["id"]) / "unpacked/bin/llama-server"
    server.write_text("#!/bin/sh\nexit 9\n")
    refused = bundle("rollback")
    assert refused.returncode == 1
    assert "does not run" in refused.stderr
    assert version_of(bundle.prefix) == "2"


def test_prune_keeps_current_and_previous_first_and_drops_their_archives(bundle, tmp_path):
    for number in range(1, 6):
        bundle.ok("install", small(tmp_path / f"{number}.tgz", number))
    oldest = next(one for one in bundle.versions() if one["build"] == 1)
    bundle.ok("rollback", str(oldest["id"]))
    gone = bundle.ok("prune", "--keep", "2").stdout.split()
    assert len(gone) == 3
    assert {one["build"] for one in bundle.versions()} == {1, 5}
    assert sorted(os.listdir(bundle.prefix / "cache")) == ["1.tgz", "5.tgz"]
    refused = bundle("remove", str(oldest["id"]))
    assert "it is the current version" in refused.stderr


def test_list_shows_every_version(bundle, tmp_path):
    assert "no bundle is installed" in bundle.ok("list").stderr
    for number in (1, 2):
        bundle.ok("install", small(tmp_path / f"{number}.tgz", number))
    header, newest, oldest = bundle.ok("list").stdout.splitlines()
    assert header.split() == ["ID", "VERSION", "BUILD", "BACKENDS", "SHA256", "INSTALLED", "SIZE", "STATE"]
    assert newest.split()[1:4] == ["b2", "2", "-"]
    assert newest.endswith("current")
    assert oldest.split()[1] == "b1"


@pytest.mark.parametrize(
    ("server", "mode", "said"),
    [
        ("#!/bin/sh\nexit 7\n", 0o755, "does not run: --version: exit status 7"),
        ("#!/nowhere/sh\n", 0o755, "does not run: it cannot be started"),
        ("#!/bin/sh\n", 0o644, "is not executable"),
    ],
)
def test_bundle_that_does_not_run_switches_nothing(bundle, tmp_path, server, mode, said):
    bundle.ok("install", small(tmp_path / "good.tgz", 1))
    refused = bundle("install", small(tmp_path / "bad.tgz", 2, server=server, mode=mode))
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "hint:" in refused.stderr
    assert (version_of(bundle.prefix), len(bundle.versions()), leftovers(bundle.prefix)) == ("1", 1, [])
    assert os.listdir(bundle.prefix / "cache") == ["good.tgz"]


def test_real_bundle_without_a_library_is_refused_with_its_name(bundle, real, tmp_path):
    bundle.ok("install", small(tmp_path / "good.tgz", 1))
    top = laid_out(real, "root", tmp_path)
    (top / "bin/libllama.so.0").unlink()
    refused = bundle("install", pack(top, tmp_path / "bad.tar"))
    assert refused.returncode == 1
    assert "libllama.so.0 is not found; needed by" in refused.stderr
    assert "libllama-server-impl.so" in refused.stderr
    assert version_of(bundle.prefix) == "1"


def test_bundle_without_readme_or_libraries_warns(bundle, real, tmp_path):
    top = laid_out(real, "release-build", tmp_path)
    (top / "build/README.md").unlink()
    done = bundle.ok("install", pack(top, tmp_path / "a.tar"))
    assert "warning: the bundle has no README* beside bin/" in done.stderr


def test_real_bin_folder_of_before_becomes_a_version(bundle, tmp_path):
    home = bundle.prefix / "llama-cpp"
    (home / "bin").mkdir(parents=True)
    (home / "bin/llama-server").write_text('#!/bin/sh\necho "version: 77 (abc)"\n')
    (home / "bin/llama-server").chmod(0o755)
    (home / "notes.txt").write_text("mine")
    bundle.ok("install", small(tmp_path / "a.tgz", 1))
    assert version_of(bundle.prefix) == "1"
    assert (home / "notes.txt").read_text() == "mine"
    (old,) = [one for one in bundle.versions() if not one["current"]]
    assert (old["build"], str(old["id"])[:4]) == (77, "old-")
    bundle.ok("rollback")
    assert version_of(bundle.prefix) == "77"
    bundle.ok("rollback")
    assert bundle.ok("prune", "--keep", "1").stdout.strip() == old["id"]


def test_helper_scripts_are_those_of_the_image_and_run(bundle, tmp_path, cli):
    bundle.ok("install", small(tmp_path / "a.tgz", 1))
    home = bundle.prefix / "llama-cpp"
    for name in ("get-llama-cpp-pkg.sh", "install-llama-cpp-pkg.sh", "check-and-run-llama-cpp.sh"):
        assert (home / name).read_text() == (ROOT / "installation/stage-2" / name).read_text()
    where = tmp_path / "path"
    where.mkdir()
    (where / "infer-dev").write_text(f'#!/bin/sh\nexec {sys.executable} -m infer_dev "$@"\n')
    (where / "infer-dev").chmod(0o755)
    (where / "linked").symlink_to(home / "get-llama-cpp-pkg.sh")
    env = cli.env | {"PATH": f"{where}:/usr/bin:/bin", "AUTO_INFER_LLAMA_CPP_PKG_PATH": str(tmp_path / "a.tgz")}
    done = subprocess.run(
        [where / "linked", "--prefix", bundle.prefix], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "installed already" in done.stderr) == (0, True), done.stderr
    without = subprocess.run(
        [home / "check-and-run-llama-cpp.sh"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (without.returncode, without.stderr) == (69, "cannot run infer-dev: it is not on PATH\n")


def test_script_of_an_image_stays_as_it_is(bundle, tmp_path):
    script = bundle.prefix / "llama-cpp/get-llama-cpp-pkg.sh"
    script.parent.mkdir(parents=True)
    script.write_text("of the image")
    bundle.ok("install", small(tmp_path / "a.tgz", 1))
    assert script.read_text() == "of the image"


def test_archive_in_the_cache_can_be_installed_from_there(bundle, tmp_path):
    bundle.ok("install", small(tmp_path / "a.tgz", 1))
    cached = bundle.prefix / "cache/a.tgz"
    before = cached.read_bytes()
    bundle.ok("install", cached)
    assert cached.read_bytes() == before


def test_mistakes_are_told(bundle, tmp_path):
    none = bundle("install")
    assert (none.returncode, "cannot tell which archive" in none.stderr) == (2, True)
    missing = bundle("install", tmp_path / "no.tgz")
    assert (missing.returncode, "No such file or directory" in missing.stderr) == (1, True)
    assert not bundle.prefix.exists()


def test_second_install_waits_for_the_first_and_says_so(cli, bundle, tmp_path):
    slow = '#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\necho "version: 1 (x)"\n'
    go = tmp_path / "go"
    first = cli.start(
        "bundle", "install", small(tmp_path / "1.tgz", 1, server=slow.format(go=go)), "--prefix", bundle.prefix
    )
    eventually(lambda: [name for name in leftovers(bundle.prefix) if ".staging-" in name])
    second = cli.start("bundle", "install", small(tmp_path / "2.tgz", 2), "--prefix", bundle.prefix)
    assert second.stderr is not None
    assert second.stderr.readline() == f"another install works in {bundle.prefix}; waiting until it is done\n"
    assert second.poll() is None
    go.touch()
    assert first.communicate(timeout=30)[1].startswith("installed llama.cpp b1")
    assert "installed llama.cpp b2" in second.communicate(timeout=30)[1]
    assert version_of(bundle.prefix) == "2"
    assert len(bundle.versions()) == 2


def test_progress_is_shown_on_a_terminal_only(bundle, tmp_path):
    archive = small(tmp_path / "big.tgz", 1, padding_bytes=4 << 20)
    ours, theirs = os.openpty()
    env = {name: value for name, value in bundle.cli.env.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    argv = [sys.executable, "-m", "infer_dev", "bundle", "install", str(archive), "--prefix", str(bundle.prefix)]
    child = subprocess.Popen(argv, env=env, cwd=ROOT, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert child.communicate()[0] == b""
    assert child.returncode == 0
    assert b"big.tgz" in shown
    assert b"MiB" in shown
    assert b"installed llama.cpp b1" in shown
