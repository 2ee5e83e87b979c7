"""What stands in the way of a plan, all of it told before anything is started."""

from collections.abc import Collection, Container, Sequence

from infer_dev.check.obstacles import LOG_HINT, PORT_HINT, ports_taken
from infer_dev.errors import ConfigError, InferDevError, UnavailableError
from infer_dev.host.log import file as logfile
from infer_dev.plan.conflicts import conflicts
from infer_dev.plan.model import Endpoint, Plan, Spec, Topic


def refuse_conflicts(plan: Plan, others: Sequence[Spec]) -> None:
    """Raise if the plan contradicts itself or the specs accepted from other files.

    Raises:
        ConfigError: names every conflict and its place.
    """
    found = [(f"{plan.place(one.name, one.topic)}: {one.what}", one.hint) for one in conflicts(plan.specs, others)]
    _raise(ConfigError, plan, found)


def refuse_obstacles(plan: Plan, starting: Container[str], ours: Collection[Endpoint]) -> None:
    """Raise if the host does not let the instances in `starting` run.

    Args:
        plan: what shall run.
        starting: names of the instances that will get a new process.
        ours: endpoints held by instances that will be stopped first.

    Raises:
        ConfigError: a log that cannot be written.
        UnavailableError: a port taken by another program, named with its pid.
    """
    specs = [spec for spec in plan.specs if spec.name in starting]
    taken = [
        (f"{plan.place(name, Topic.PORT)}: {told}", PORT_HINT) for name, told in ports_taken(specs, ours).items()
    ]
    _raise(UnavailableError, plan, taken)
    logs = []
    for spec in specs:
        if reason := logfile.obstacle(spec.command.log_file):
            where = f"{plan.place(spec.name, Topic.LOG)}: the log {spec.command.log_file} cannot be written: {reason}"
            logs.append((where, LOG_HINT))
    _raise(ConfigError, plan, logs)


def _raise(kind: type[InferDevError], plan: Plan, found: Sequence[tuple[str, str]]) -> None:
    if len(found) == 1:
        raise kind(f"cannot start {found[0][0]}", hint=found[0][1])
    if found:
        lines = [f"  {where}: {hint}" for where, hint in found]
        raise kind("\n".join([f"cannot start {plan.source}: {len(found)} obstacles:", *lines]))
