"""Packages of another Debian suite, fetched with the machine's own apt but none of its state.

The mirror comes from the machine's apt sources with the suite name swapped, so no host name is written
here; proxies and certificates come from its `Acquire` settings. Lists, caches and the package database
are private folders, so this needs no root and leaves the system's apt alone (apt.conf(5), apt-get(8)).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import PartsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GET_A_SERVER = (
    "put a llama-server on PATH, or set LLAMA_SERVER=/path/to/llama-server, or run this in a Debian container "
    "with network"
)
TOOLS = ("apt-get", "apt-config", "dpkg", "dpkg-deb")
MULTIARCH = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
COMMAND_TIMEOUT_S = 600
LAST_LINES = 6  # of apt's output, kept in an error

_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+\S+(?P<components>(?:\s+[^\s#]+)*)")
_SNAPSHOT_STAMP = re.compile(r"\d{8}T\d{6}Z")


def require_apt() -> str:
    """The Debian architecture of this machine.

    Raises:
        PartsError: where apt is missing or the architecture is not one llama.cpp is packaged for here.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise PartsError(
            f"cannot make a llama-server bundle: {', '.join(missing)} not found on PATH", hint=GET_A_SERVER
        )
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    if architecture not in MULTIARCH:
        raise PartsError(
            f"cannot make a llama-server bundle for {architecture} (only for {', '.join(MULTIARCH)})",
            hint=GET_A_SERVER,
        )
    return architecture


def mirrors(etc_apt: Path) -> list[str]:
    """Archive URIs that may carry another suite, the likeliest first.

    A snapshot mirror is frozen at a date that may be older than what is asked of it, so after each such
    URI comes the same one dated now, which a snapshot service redirects to its newest state.
    """
    found = [uri for path in _source_files(etc_apt) for uri in _uris(path)]
    likely = sorted(dict.fromkeys(found), key=_rank)
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    both = [candidate for uri in likely for candidate in (uri, _SNAPSHOT_STAMP.sub(now, uri))]
    return list(dict.fromkeys(both))


def download(packages: Sequence[str], *, suite: str, state: Path) -> list[Path]:
    """Downloads `packages` of `suite` into `state`/debs, each checked against the signed lists.

    Args:
        packages: names, without versions.
        suite: the suite's code name.
        state: a private folder for apt's lists and caches; kept, which makes a second update quick.

    Raises:
        PartsError: no mirror of this machine has the packages.
    """
    etc_apt = Path(_apt_dir("Dir::Etc/d", "/etc/apt"))
    tried: list[str] = []
    for uri in mirrors(etc_apt):
        debs = state / "debs"
        shutil.rmtree(debs, ignore_errors=True)
        environment = os.environ | {"APT_CONFIG": str(_configure(state, f"deb {uri} {suite} main\n"))}
        try:
            _run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], env=environment)
            debs.mkdir()
            _run(["apt-get", "-q", "download", *packages], env=environment, cwd=debs)
        except PartsError as err:
            tried.append(f"{uri}: {err.message}")
            continue
        return sorted(debs.glob("*.deb"))
    detail = "\n  ".join(tried) or f"no http or file source of Debian's main archive in {etc_apt}"
    raise PartsError(f"cannot download llama.cpp of Debian {suite}\n  {detail}", hint=GET_A_SERVER)


def unpack(debs: Sequence[Path], target: Path) -> None:
    """Unpacks packages into `target` without running any of their scripts."""
    for deb in debs:
        _run(["dpkg-deb", "-x", str(deb), str(target)])


def _source_files(etc_apt: Path) -> Iterator[Path]:
    yield etc_apt / "sources.list"
    parts = etc_apt / "sources.list.d"
    if parts.is_dir():
        yield from sorted(path for path in parts.iterdir() if path.suffix in {".list", ".sources"})


def _uris(path: Path) -> Iterator[str]:
    """Binary archives with a `main` component in one sources file (sources.list(5), both formats)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return
    if path.suffix == ".list":
        for line in text.splitlines():
            if (entry := _ONE_LINE.match(line.strip())) and "main" in entry["components"].split():
                yield entry["uri"]
        return
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
        if enabled and "deb" in fields.get("types", "").split() and "main" in fields.get("components", "").split():
            yield from fields.get("uris", "").split()


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _rank(uri: str) -> int:
    """0 for an archive called `debian`, 2 for the security archive, which never has testing."""
    if "security" in uri:
        return 2
    return 0 if re.search(r"/debian(/|$)", uri) else 1


def _configure(state: Path, source: str) -> Path:
    """Writes an apt configuration of which every path is private to `state`; returns its file."""
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    status, sources, config = state / "status", state / "sources.list", state / "apt.conf"
    config.touch(mode=0o600)  # a proxy's address may hold a password
    status.write_text("", encoding="utf-8")
    sources.write_text(source, encoding="utf-8")
    # How this machine reaches a mirror. The rest of its configuration stays out: its post-update hooks
    # (docker-clean, appstream) act on the system's own folders.
    reach = [
        line
        for line in _run(["apt-config", "dump"]).splitlines()
        if line.startswith("Acquire::") and not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))
    ]
    own = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": status,
        "Dir::Cache": state / "cache",
        "Dir::Cache::pkgcache": "",  # 90 MB that only a second run would read
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "APT::Sandbox::User": "root",  # the user _apt may not read a folder of ours
    }
    config.write_text("\n".join([*reach, *(f'{key} "{value}";' for key, value in own.items())]), encoding="utf-8")
    return config


def _apt_dir(item: str, default: str) -> str:
    value = re.search(r"X='(.*)'", _run(["apt-config", "shell", "X", item]))
    return value[1] if value else default


def _run(argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as err:
        last = " / ".join((err.stderr or err.stdout).strip().splitlines()[-LAST_LINES:])
        raise PartsError(f"{argv[0]} failed with {err.returncode}: {last}", hint=GET_A_SERVER) from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise PartsError(f"cannot run {argv[0]}: {err}", hint=GET_A_SERVER) from err
    return done.stdout
