"""From a checked file and a server binary to a plan. Pure: no file is touched, paths are only joined."""

import posixpath
from collections.abc import Mapping
from dataclasses import fields, replace

from infer_dev.config.load import ConfigFile
from infer_dev.config.schema import ControlTable
from infer_dev.config.validate import Instance
from infer_dev.errors import ConfigError
from infer_dev.plan.api import refuse_clashes
from infer_dev.plan.argv import (
    ALIAS_FLAGS,
    DEFAULT_PORT,
    PORT_ENV,
    endpoint_of,
    flag_value,
    model_of,
    server_argv,
)
from infer_dev.plan.model import Api, Command, Plan, Policy, Spec, Topic


def build_plan(file: ConfigFile, binary: str, environ: Mapping[str, str]) -> Plan:
    """The plan of `file`, every instance run by `binary`.

    Args:
        file: a checked configuration; relative paths in it count from its folder.
        binary: path of the llama-server.
        environ: what the instances inherit; `LD_LIBRARY_PATH` and `CUDA_DEVICE_ORDER` in it are respected.

    Raises:
        ConfigError: a port that is none, or the management API's.
    """
    specs = tuple(_spec(file, instance, binary, environ) for instance in file.instances)
    plan = Plan(
        source=file.path,
        enabled=file.master.enable,
        binary=binary,
        specs=specs,
        places={spec.name: _places(file, spec.name) for spec in specs},
        api=_api(file),
    )
    refuse_clashes(plan)
    return plan


def instance_env(control: ControlTable, binary: str, environ: Mapping[str, str]) -> dict[str, str]:
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
            if "CUDA_DEVICE_ORDER" not in environ:
                env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    behind = control.env.get("LD_LIBRARY_PATH", environ.get("LD_LIBRARY_PATH", ""))
    # An empty part would stand for the working directory.
    if libraries := ":".join(part for part in (posixpath.dirname(binary), behind) if part):
        env["LD_LIBRARY_PATH"] = libraries
    return env


def _api(file: ConfigFile) -> Api:
    master = file.master
    said = {name: getattr(master, f"api_{name}") for name in ("host", "port", "token", "token_file")}
    said = {name: value for name, value in said.items() if value is not None}
    if "token_file" in said:
        said["token_file"] = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), said["token_file"]))
    return Api(**said, places={name: file.place("master", f"api_{name}") for name in said})


def _places(file: ConfigFile, name: str) -> dict[Topic, str]:
    return {
        Topic.INSTANCE: file.place("instance", name),
        Topic.PORT: file.place_of(name, "server", "port", "host"),
        Topic.LOG: file.place_of(name, "control", "log_file", "log_dir"),
        Topic.GROUP: file.place_of(name, "control", "group"),
        Topic.ORDER: file.place_of(name, "control", "start_after"),
    }


def _spec(file: ConfigFile, instance: Instance, binary: str, environ: Mapping[str, str]) -> Spec:
    control, name = instance.control, instance.name
    folder = posixpath.dirname(file.path)
    argv = server_argv(instance.server)
    env = instance_env(control, binary, environ)
    try:
        endpoint = endpoint_of(argv, env)
    except ValueError as err:
        place = file.place_of(name, "server", "port")
        raise ConfigError(f"cannot use {place}: {err}", hint="give each instance a free port") from err
    if flag_value(argv, ("--port",)) is None and not endpoint.is_unix:
        env.setdefault(PORT_ENV, str(DEFAULT_PORT))  # builds differ in their own default
    cwd = posixpath.normpath(posixpath.join(folder, control.cwd or ""))
    if endpoint.is_unix:  # the server binds it in its own folder, we dial from ours
        endpoint = replace(endpoint, dial_host=posixpath.join(cwd, endpoint.dial_host))
    log_file = control.log_file or posixpath.join(control.log_dir, f"llama-server-{name}.log")
    return Spec(
        name=name,
        source=file.path,
        command=Command(
            argv=(binary, *argv),
            env=env,
            cwd=cwd,
            log_file=posixpath.normpath(posixpath.join(folder, log_file)),
        ),
        endpoint=endpoint,
        policy=Policy(**{field.name: getattr(control, field.name) for field in fields(Policy)}),
        model=model_of(argv),
        alias=flag_value(argv, ALIAS_FLAGS),
        gpu_ids=control.gpu_ids,
        background=control.background,
        enabled=control.enabled,
        autostart=control.autostart,
        group=control.group,
        start_after=control.start_after,
    )
