"""Archives to install: the real bundle in every format and layout, and small ones that only say a version."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import zstandard

FORMATS = (".tar", ".tar.gz", ".tgz", ".zip", ".tar.xz", ".tar.zst", ".tar.bz2")
LAYOUTS = ("root", "one-folder", "release-build", "release-flat")
_SCRIPT = '#!/bin/sh\necho "version: {version} (0c39f44d)"\n'


def real_bundle(server: str) -> Path:
    """The folder whose bin/ holds the real llama-server."""
    return Path(server).resolve().parents[1]


def laid_out(bundle: Path, layout: str, work: Path) -> Path:
    """A folder whose contents are the real bundle in a layout. Hard links: copying 45 MB each time takes long."""
    top = work / "top"
    match layout:
        case "root":
            _link_tree(bundle, top)
        case "one-folder":
            _link_tree(bundle, top / "llama.cpp-1.0")
        case "release-build":
            _link_tree(bundle, top / "build")
        case "release-flat":
            flat = top / "llama-b11669"
            _link_tree(bundle / "bin", flat)
            if (bundle / "libc").exists():
                _link_tree(bundle / "libc", flat / "libc")
                wrapper = (flat / "llama-server").read_text(encoding="utf-8")
                (flat / "llama-server").unlink()
                (flat / "llama-server").write_text(wrapper.replace("$here/../libc", "$here/libc"), encoding="utf-8")
                (flat / "llama-server").chmod(0o755)
    return top


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link, symlinks=True)


def pack(folder: Path, archive: Path) -> Path:
    """Everything in `folder`, by the format `archive` is named for."""
    names = sorted(entry.name for entry in folder.iterdir())
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(folder))
    elif archive.name.endswith(".tar.zst"):
        plain = pack(folder, archive.with_suffix(""))
        archive.write_bytes(zstandard.ZstdCompressor(level=1).compress(plain.read_bytes()))
        plain.unlink()
    else:
        suffix = "gz" if archive.suffix == ".tgz" else archive.suffix.removeprefix(".").replace("tar", "")
        arguments: dict[str, Any] = {"gz": {"compresslevel": 1}, "bz2": {"compresslevel": 1}, "xz": {"preset": 0}}
        with tarfile.open(archive, f"w:{suffix}", **arguments.get(suffix, {})) as packed_tar:  # type: ignore[call-overload]
            for name in names:
                packed_tar.add(folder / name, name)
    return archive


def small(
    archive: Path,
    version: int,
    *,
    padding_bytes: int = 0,
    server: str = "",
    mode: int = 0o755,
    readme: str = "README.md",
) -> Path:
    """An archive whose server is a script that tells a build number; `padding_bytes` of noise in a library."""
    entries = {
        readme: (b"test\n", 0o644),
        "bin/llama-server": ((server or _SCRIPT.format(version=version)).encode(), mode),
        "bin/libllama.so": (b"library %d" % version, 0o644),
    }
    if padding_bytes:
        entries["bin/libggml-cpu.so"] = (os.urandom(padding_bytes), 0o644)
    making = archive.with_name(f"{archive.name}.making")
    with tarfile.open(making, "w:gz", compresslevel=1) as packed:
        for name, (data, bits) in entries.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), bits
            packed.addfile(member, io.BytesIO(data))
    making.replace(archive)
    return archive


def version_of(prefix: Path) -> str:
    """What the installed server says; raises if it does not run."""
    server = prefix / "llama-cpp/bin/llama-server"
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    return (said.stdout + said.stderr).splitlines()[0].split()[1]


def leftovers(prefix: Path) -> list[str]:
    """Names that only an install in progress may have."""
    marks = (".staging-", ".trash-", ".partial-", ".link-")
    return [str(path.relative_to(prefix)) for path in prefix.rglob(".*") if path.name.startswith(marks)]


def install_argv(archive: Path, prefix: Path) -> list[str]:
    return [sys.executable, "-m", "infer_dev", "bundle", "install", str(archive), "--prefix", str(prefix)]
