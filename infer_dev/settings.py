"""Every path and environment variable infer-dev knows, named once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


CONFIG_VAR = "AUTO_INFER_LLAMA_CPP_CONFIG"
OVERRIDES_VAR = "AUTO_INFER_LLAMA_CPP_OVERRIDES"
PKG_PATH_VAR = "AUTO_INFER_LLAMA_CPP_PKG_PATH"
# The descriptor on which a daemon started by `up` says that it is ready.
READY_FD_VAR = "INFER_DEV_READY_FD"
# The descriptor of a daemon started by boot that is its end of their link (host/watch/link.py).
BOOT_FD_VAR = "INFER_DEV_BOOT_FD"
RUNTIME_DIR_VAR = "INFER_DEV_RUNTIME_DIR"
# The folder of what was found out and can be found out again.
CACHE_DIR_VAR = "INFER_DEV_CACHE_DIR"
# The account as which the daemon and its instances run where infer-dev is called by root (host/account.py).
USER_VAR = "INFER_DEV_USER"
# Set for a check that goes on as that account though root has called it.
BY_ROOT_VAR = "INFER_DEV_BY_ROOT"
# The program that boot keeps running as sshd.
SSHD_VAR = "INFER_DEV_SSHD"
# How long boot gives the command, the daemon and its instances to end, seconds.
STOP_GRACE_VAR = "INFER_DEV_STOP_GRACE_S"
# Switches of what boot does by itself: install the bundle, start the instances.
GET_PKG_ON_BOOT_VAR = "AUTO_INFER_LLAMA_CPP_GET_PKG_ON_BOOT"
ON_BOOT_VAR = "AUTO_INFER_LLAMA_CPP_ON_BOOT"

# Set in every instance's environment: which instance a process belongs to, and to which runtime directory.
# Whatever the process becomes, /proc/PID/environ still tells.
INSTANCE_MARK_VAR = "INFER_DEV_INSTANCE"
RUNTIME_MARK_VAR = "INFER_DEV_INSTANCE_RUNTIME"
SOURCE_MARK_VAR = "INFER_DEV_INSTANCE_SOURCE"
DIGEST_MARK_VAR = "INFER_DEV_INSTANCE_DIGEST"
SPAWN_MARK_VAR = "INFER_DEV_INSTANCE_SPAWN"

# Variables that must not reach an instance from the shell that happened to start the daemon: llama-server
# reads the first two as command-line options, the others are ours.
NOT_INHERITED_PREFIXES = ("LLAMA_ARG_", "AUTO_INFER_", "INFER_DEV_")
NOT_INHERITED = (
    "LLAMA_API_KEY",
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
)

# Where a container has the folders of its models mounted, one below it each.
MODELS_ROOT = "/llm-models"
CONTAINER_PREFIX = "/soft/app"
BUNDLE_SERVER = "/soft/app/llama-cpp/bin/llama-server"
WORKSPACE_SERVER = "/hard/volume/workspace/llama-cpp/build/bin/llama-server"
SERVER_NAME = "llama-server"

SYSTEM_RUNTIME_DIR = "/run/infer-dev"
SOCKET_NAME = "control.sock"
LOCK_NAME = "daemon.lock"
DAEMON_LOG_NAME = "daemon.log"
INSTANCES_NAME = "instances"
SOURCES_NAME = "sources.json"
HISTORY_NAME = "history.jsonl"
SWITCH_NAME = "switch.json"
BOOT_ERROR_NAME = "boot-error"
# What boot and the daemon say while somebody works at the terminal that is their stderr.
BOOT_LOG_NAME = "boot.log"
# While boot runs: its pid and start time. Who finds it leaves starting a daemon to boot.
BOOT_NOTE_NAME = "boot.pid"


def other_user(environ: Mapping[str, str] = os.environ) -> str:
    """The account that root is told to be (`$INFER_DEV_USER`); "" where there is nothing to change."""
    user = environ.get(USER_VAR, "").strip()
    return user if user not in ("", "root", "0") and os.geteuid() == 0 else ""


def runtime_dir(environ: Mapping[str, str] = os.environ) -> str:
    """The folder of the daemon's socket, lock and log.

    `$INFER_DEV_RUNTIME_DIR`, else `/run/infer-dev` if this user can write it (or make it), else
    `$XDG_RUNTIME_DIR/infer-dev`, else `/tmp/infer-dev-UID`. Root finds that of `$INFER_DEV_USER`, if it is set.
    """
    if given := environ.get(RUNTIME_DIR_VAR):
        return os.path.abspath(given)
    is_there, user = os.path.isdir(SYSTEM_RUNTIME_DIR), other_user(environ)
    probe = SYSTEM_RUNTIME_DIR if is_there else os.path.dirname(SYSTEM_RUNTIME_DIR)
    # It is the user's: root may lack the capability to write it, and still it is that one.
    if (user and is_there) or os.access(probe, os.W_OK | os.X_OK):
        return SYSTEM_RUNTIME_DIR
    if not user and (xdg := environ.get("XDG_RUNTIME_DIR")):
        return os.path.join(xdg, "infer-dev")
    uid = _uid_of(user) if user else os.getuid()
    return f"/tmp/infer-dev-{uid}"  # noqa: S108 - made with mode 0700 and its owner checked (host.runtime.folder)


def _uid_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - seldom needed

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:  # whoever needs the account tells that it is not there
        return int(user) if user.isdecimal() else os.getuid()


def socket_path(runtime: str) -> str:
    """The daemon's control socket in a runtime directory."""
    return os.path.join(runtime, SOCKET_NAME)


def cache_dir(environ: Mapping[str, str] = os.environ) -> str:
    """Where to keep what can be found out again; "" where there is no place.

    `$INFER_DEV_CACHE_DIR`, else `$XDG_CACHE_HOME/infer-dev`, else `~/.cache/infer-dev`.
    """
    if given := environ.get(CACHE_DIR_VAR):
        return os.path.abspath(given)
    cache = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "infer-dev") if os.path.isabs(cache) else ""


def native_prefix(environ: Mapping[str, str] = os.environ) -> str:
    """Where bundles go outside the container: `$XDG_DATA_HOME/infer-dev`, by default `~/.local/share/infer-dev`."""
    data = environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(os.path.abspath(data), "infer-dev")


def bundle_prefix(environ: Mapping[str, str] = os.environ) -> str:
    """Where bundles go: `/soft/app` where that folder exists and this user can write it, else `native_prefix`."""
    writable = os.access(CONTAINER_PREFIX, os.W_OK | os.X_OK) and os.path.isdir(CONTAINER_PREFIX)
    return CONTAINER_PREFIX if writable else native_prefix(environ)


def server_under(prefix: str) -> str:
    """The path of an installed bundle's server."""
    return os.path.join(prefix, "llama-cpp", "bin", SERVER_NAME)
