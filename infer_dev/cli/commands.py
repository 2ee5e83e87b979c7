"""Every command: its one line of help, where it lives, how many plain arguments it takes.

A call without options goes straight to its function. Only one with options, or `COMMAND --help`, needs click:
importing it costs more than all else that `infer-dev status` does (docs/dependencies.md has the figures).
"""

from importlib import import_module

ANY_NUMBER = 1000
COMPLETE_VAR = "_INFER_DEV_COMPLETE"
"""Set by the completion script: words are asked for, and nothing is run."""


class Command:
    """One command. A plain class: `typing` and `dataclasses` are slow to import.

    Attributes:
        help: what it does, one line.
        target: "module:function" under infer_dev.cli; called with the plain arguments in order.
        least, most: how many plain arguments it takes; None: it always goes through click.
        hidden: not listed in `--help`.
    """

    def __init__(
        self,
        help: str,  # noqa: A002 - what click calls it
        target: str,
        least: int | None = 0,
        most: int = 0,
        *,
        hidden: bool = False,
    ) -> None:
        self.help, self.target, self.least, self.most, self.hidden = help, target, least, most, hidden


COMMANDS: dict[str, Command] = {
    "up": Command("start what a file describes, wait until it serves", "up:up", 0, 1),
    "down": Command("stop all instances and the daemon, or those of one file", "up:down", 0, 1),
    "check": Command("say what cannot work in a file, before anything is started", "check:check", 0, 1),
    "plan": Command("show what `up` would do", "plan:plan", 0, 1),
    "reload": Command("read the files that are up again, change only what differs", "plan:reload", 0, 1),
    "status": Command("show the instances and how they are", "status:status", 0, ANY_NUMBER),
    "banner": Command("show in four lines what runs and what failed, for a login", "banner:banner"),
    "start": Command("start instances", "control:start", 1, ANY_NUMBER),
    "stop": Command("stop instances", "control:stop", 1, ANY_NUMBER),
    "restart": Command("restart instances", "control:restart", 1, ANY_NUMBER),
    "switch": Command(
        "make an instance the one that runs in its group, and prove that it serves", "switch:switch", 1, 1
    ),
    "chat": Command("ask a model, once or in turns", "chat.ask:chat", 0, 1),
    "bench": Command("measure how fast a model answers, alone and several at once", "chat.bench:bench", 0, 1),
    "logs": Command("show an instance's log", "logs:logs", 1, 1),
    "events": Command("show what happened to the instances", "logs:events"),
    "config": Command("show a file as understood, its command lines, its schema; write one", "config:show", None),
    "dashboard": Command("show and steer everything on one screen", "dashboard:dashboard"),
    "select": Command("choose a configuration or a model from a list, and start it", "select:select", 0, 1),
    "gpus": Command("show the GPUs, what is free on them and what runs there", "gpus:gpus"),
    "models": Command("list the GGUF models here and whether they are complete", "models:listing", 0, ANY_NUMBER),
    "bundle": Command("install llama.cpp from an archive, list, roll back, remove, make one", "bundle:show", None),
    "boot": Command("run a command with the daemon beside it: a container's entrypoint", "boot:boot", 0, ANY_NUMBER),
    "completion": Command("print the completion script of bash, zsh or fish", "completion:completion", None),
    "daemon": Command("run the supervisor in the foreground", "daemon:daemon", hidden=True),
}

USAGE = "Usage: infer-dev COMMAND [ARGUMENTS]… (infer-dev COMMAND --help for its options)"
INTRO = "Runs several llama.cpp servers from one TOML file and keeps them alive."


def overview() -> str:
    """What `infer-dev --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items() if not command.hidden]
    options = [f"  {'--help':<{width}}  this text", f"  {'--version':<{width}}  the version"]
    return "\n".join([USAGE, "", INTRO, "", "Commands:", *lines, "", "Options:", *options])


def run_command(name: str, *plain: str, **options: object) -> int:
    """Call a command's function; returns its exit status."""
    module, _, function = COMMANDS[name].target.partition(":")
    status = getattr(import_module(f"infer_dev.cli.{module}"), function)(*plain, **options)
    assert isinstance(status, int)  # noqa: S101 - the functions' contract
    return status
