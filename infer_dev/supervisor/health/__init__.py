"""Whether an instance serves: `watch` tells, from four signals and a look at who answers. See docs/health.md."""

from infer_dev.supervisor.health.probe import Reply, ask
from infer_dev.supervisor.health.subject import INTERVAL_S, Outside, Subject
from infer_dev.supervisor.health.watch import watch

__all__ = ["INTERVAL_S", "Outside", "Reply", "Subject", "ask", "watch"]
