"""From a checked file and a server binary to a plan. Pure: no file is touched, paths are only joined."""

import posixpath

from infer_dev.config.load import ConfigFile
from infer_dev.config.schema import ControlTable
from infer_dev.config.validate import Instance
from infer_dev.errors import ConfigError
from infer_dev.plan.argv import (
    ALIAS_FLAGS,
    DEFAULT_PORT,
    PORT_ENV,
    endpoint_of,
    flag_value,
    model_of,
    server_argv,
)
from infer_dev.plan.model import Command, Plan, Policy, Spec


def build_plan(file: ConfigFile, binary: str, *, inherited_library_path: str = "") -> Plan:
    """The plan of `file`, every instance run by `binary`.

    Args:
        file: a checked configuration; relative paths in it count from its folder.
        binary: path of the llama-server.
        inherited_library_path: `LD_LIBRARY_PATH` of the daemon; the binary's folder goes in front of it.

    Raises:
        ConfigError: a port that is none.
    """
    specs = tuple(_spec(file, instance, binary, inherited_library_path) for instance in file.instances)
    return Plan(
        source=file.path,
        enabled=file.master.enable,
        binary=binary,
        specs=specs,
        places={spec.name: file.place("instance", spec.name) for spec in specs},
    )


def instance_env(control: ControlTable, binary: str, inherited_library_path: str) -> dict[str, str]:
    """The variables set for an instance on top of the cleaned environment."""
    env = dict(control.env)
    match control.gpu_ids:
        case None | "all":
            pass
        case "none":
            env["CUDA_VISIBLE_DEVICES"] = ""
        case ids:
            env["CUDA_VISIBLE_DEVICES"] = ids
            # CUDA counts fastest first, nvidia-smi by bus: without this the ids would not be those users see.
            env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    behind = control.env.get("LD_LIBRARY_PATH", inherited_library_path)
    folder = posixpath.dirname(binary)
    env["LD_LIBRARY_PATH"] = f"{folder}:{behind}" if behind else folder
    return env


def _spec(file: ConfigFile, instance: Instance, binary: str, inherited_library_path: str) -> Spec:
    control, name = instance.control, instance.name
    folder = posixpath.dirname(file.path)
    argv = server_argv(instance.server)
    env = instance_env(control, binary, inherited_library_path)
    try:
        endpoint = endpoint_of(argv, env)
    except ValueError as err:
        place = file.place("instance", name, "server", "port")
        raise ConfigError(f"cannot use {place}: {err}", hint="give each instance a free port") from err
    if flag_value(argv, ("--port",)) is None and not endpoint.is_unix:
        env.setdefault(PORT_ENV, str(DEFAULT_PORT))  # builds differ in their own default
    log_file = control.log_file or posixpath.join(control.log_dir, f"llama-server-{name}.log")
    return Spec(
        name=name,
        source=file.path,
        command=Command(
            argv=(binary, *argv),
            env=env,
            cwd=posixpath.normpath(posixpath.join(folder, control.cwd or "")),
            log_file=posixpath.normpath(posixpath.join(folder, log_file)),
        ),
        endpoint=endpoint,
        policy=Policy(
            restart=control.restart,
            max_restarts=control.max_restarts,
            restart_window_s=control.restart_window_s,
            backoff_s=control.backoff_s,
            backoff_max_s=control.backoff_max_s,
            ready_timeout_s=control.ready_timeout_s,
            stop_timeout_s=control.stop_timeout_s,
        ),
        model=model_of(argv),
        alias=flag_value(argv, ALIAS_FLAGS),
        gpu_ids=control.gpu_ids,
        background=control.background,
        enabled=control.enabled,
        autostart=control.autostart,
        group=control.group,
    )
