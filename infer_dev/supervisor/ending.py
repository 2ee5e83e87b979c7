"""Why a process ended: from its exit status and from the last lines it wrote."""

from signal import SIGKILL

from infer_dev.host import logfile, ports
from infer_dev.host.process import Exit
from infer_dev.llama_cpp.cause import Cause
from infer_dev.llama_cpp.failure import classify
from infer_dev.plan.model import Spec
from infer_dev.supervisor.lifecycle import Failure

TAIL_LINES = 10
TAIL_LINE_CHARS = 400
CLASSIFY_LINES = 200
CLASSIFY_LINE_CHARS = 1000


def explain(spec: Spec, ended: Exit, *, log_start: int, oom_killed: bool) -> Failure:
    """The failure that an end nobody asked for is.

    Args:
        spec: the instance.
        ended: how its process ended.
        log_start: byte offset in its log at which this process began to write.
        oom_killed: the kernel's out-of-memory killer was at work.
    """
    lines, _ = logfile.tail(spec.command.log_file, CLASSIFY_LINES, since=log_start)
    lines = [line[:CLASSIFY_LINE_CHARS] for line in lines if not line.startswith(logfile.START_MARK)]
    cause, detail = classify(status=ended.status, signal=ended.signal, lines=lines), str(ended)
    if cause is Cause.PORT_IN_USE:
        cause, detail = _explain_bind(spec)
    if oom_killed and ended.signal == SIGKILL:
        cause, detail = Cause.OUT_OF_MEMORY_HOST, f"{detail} by the kernel's out-of-memory killer"
    last = tuple(line[:TAIL_LINE_CHARS] for line in lines[-TAIL_LINES:])
    return Failure(cause=cause, detail=detail, exit_status=ended.code, log_tail=last)


def _explain_bind(spec: Spec) -> tuple[Cause, str]:
    """Why the server could not listen: it says the same of a port in use and of an address not of this host."""
    at = spec.endpoint
    if ports.is_free(at):
        return Cause.BAD_ARGUMENT, f"cannot listen on {at}, though it is free"
    return Cause.PORT_IN_USE, ports.taken(at)
