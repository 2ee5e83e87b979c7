"""The options of every command, by click: for calls that have some, for `COMMAND --help`, for completion."""

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from infer_dev.cli.commands import COMMANDS, COMPLETE_VAR, run_command
from infer_dev.errors import InferDevError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Runs several llama.cpp servers from one TOML file and keeps them alive.",
)
@click.version_option(package_name="infer-dev", prog_name="infer-dev", message="%(prog)s %(version)s")
def cli() -> None: ...


def parse_and_run(args: Sequence[str]) -> int:
    """Parse with click and run; returns the exit status. Mistakes are told on stderr, status 2."""
    try:
        result = _run(list(args))
    except click.ClickException as err:
        err.show(file=sys.stderr)
        return err.exit_code
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.Abort as err:
        raise KeyboardInterrupt from err
    return result if isinstance(result, int) else 0


def _run(args: list[str]) -> object:
    """What the command returns."""
    if COMPLETE_VAR in os.environ:
        return cli.main(args=args, prog_name="infer-dev", complete_var=COMPLETE_VAR, standalone_mode=False)
    # Not `cli.main`: it takes a reader that has gone (EPIPE) for its own to answer.
    with cli.make_context("infer-dev", args) as context:
        return cli.invoke(context)


def _complete_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from infer_dev.cli.launch import client  # noqa: PLC0415 - only while completing

    try:
        names = [str(one["name"]) for one in client().get("/status", timeout_s=1.0)["instances"]]
    except InferDevError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_names = click.argument("names", metavar="[NAME…]", nargs=-1, shell_complete=_complete_names)
_names_required = click.argument("names", metavar="NAME…", nargs=-1, required=True, shell_complete=_complete_names)
_name = click.argument("name", shell_complete=_complete_names)
_config = click.argument("config", metavar="[FILE]", required=False, type=click.Path())
_json = click.option("--json", "as_json", is_flag=True, help="print JSON")
_no_wait = click.option("--no-wait", is_flag=True, help="do not wait until it serves")
_no_check = click.option("--no-check", is_flag=True, help="start without looking at what cannot work")
_timeout = click.option(
    "--timeout", "timeout_s", metavar="SECONDS", type=click.FloatRange(min=0), help="wait no longer than this"
)


@cli.command(help=COMMANDS["up"].help)
@_config
@_no_wait
@_timeout
@_no_check
@click.option("--keep-going", is_flag=True, help="start what can work, though the check says that something cannot")
def up(config: str | None, *, no_wait: bool, timeout_s: float | None, no_check: bool, keep_going: bool) -> int:
    plain = [config] if config else []
    return run_command("up", *plain, wait=not no_wait, timeout_s=timeout_s, check=not no_check, keep_going=keep_going)


@cli.command(help=COMMANDS["down"].help)
@_config
def down(config: str | None) -> int:
    return run_command("down", *([config] if config else []))


@cli.command(help=COMMANDS["plan"].help)
@_config
@_json
def plan(config: str | None, *, as_json: bool) -> int:
    return run_command("plan", *([config] if config else []), as_json=as_json)


@cli.command("reload", help=COMMANDS["reload"].help)
@_config
@_no_wait
@_timeout
@_no_check
def reload_(config: str | None, *, no_wait: bool, timeout_s: float | None, no_check: bool) -> int:
    plain = [config] if config else []
    return run_command("reload", *plain, wait=not no_wait, timeout_s=timeout_s, check=not no_check)


@cli.command(help=COMMANDS["check"].help)
@_config
@_json
@click.option("--strict", is_flag=True, help="take warnings for errors")
def check(config: str | None, *, as_json: bool, strict: bool) -> int:
    return run_command("check", *([config] if config else []), as_json=as_json, strict=strict)


@cli.command(help=COMMANDS["daemon"].help, hidden=True)
@click.option("--replace", is_flag=True, help="take over from the daemon that runs; no instance is touched")
def daemon(*, replace: bool) -> int:
    return run_command("daemon", replace=replace)


@cli.command(help=COMMANDS["status"].help)
@_names
@_json
@click.option("--watch", is_flag=True, help="show again every second until interrupted")
def status(names: tuple[str, ...], *, as_json: bool, watch: bool) -> int:
    return run_command("status", *names, as_json=as_json, watch=watch)


@cli.command(help=COMMANDS["banner"].help)
def banner() -> int:
    return run_command("banner")


@cli.command(help=COMMANDS["start"].help)
@_names_required
@_no_wait
@_timeout
def start(names: tuple[str, ...], *, no_wait: bool, timeout_s: float | None) -> int:
    return run_command("start", *names, wait=not no_wait, timeout_s=timeout_s)


@cli.command(help=COMMANDS["stop"].help)
@_names_required
def stop(names: tuple[str, ...]) -> int:
    return run_command("stop", *names)


@cli.command(help=COMMANDS["restart"].help)
@_names_required
@_no_wait
@_timeout
def restart(names: tuple[str, ...], *, no_wait: bool, timeout_s: float | None) -> int:
    return run_command("restart", *names, wait=not no_wait, timeout_s=timeout_s)


@cli.command(help=COMMANDS["switch"].help)
@_name
@click.option("--wait", is_flag=True, help="wait until a switch that is under way is over")
@click.option(
    "--drain-timeout",
    "drain_timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="let requests to the old one finish for as long as this, instead of its control.drain_timeout_s; "
    "Ctrl-C calls the switch off",
)
@_json
def switch(name: str, *, wait: bool, drain_timeout_s: float | None, as_json: bool) -> int:
    return run_command("switch", name, wait=wait, drain_timeout_s=drain_timeout_s, as_json=as_json)


_instance = click.argument("name", metavar="[NAME]", required=False, shell_complete=_complete_names)
_url = click.option("--url", metavar="URL", help="any llama-server, or a server like it, instead of an instance")
_answer_timeout = click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=300,
    show_default=True,
    help="wait no longer for the next word",
)


@cli.command(help=f"{COMMANDS['chat'].help}. The API key, where one is needed, is read from $LLAMA_API_KEY.")
@_instance
@click.option("-p", "--prompt", metavar="TEXT", help="ask this, print the answer, leave; - reads it from stdin")
@click.option("-s", "--system", metavar="TEXT", default="", help="the instruction before the conversation")
@_url
@click.option("-n", "--max-tokens", type=click.IntRange(min=1), help="the longest answer")
@click.option("--temperature", type=click.FloatRange(min=0), help="0: always the likeliest token")
@_answer_timeout
@_json
def chat(name: str | None, **options: object) -> int:
    return run_command("chat", *([name] if name else []), **options)


@cli.command(help=f"{COMMANDS['bench'].help}. The API key, where one is needed, is read from $LLAMA_API_KEY.")
@_instance
@_url
@click.option("-c", "--parallel", metavar="N", type=click.IntRange(1, 1024), help="up to so many at once")
@click.option("-r", "--requests", type=click.IntRange(min=1), help="how many requests at each level")
@click.option("-p", "--prompt-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("-n", "--max-tokens", type=click.IntRange(min=1), default=128, show_default=True)
@_answer_timeout
@_json
def bench(name: str | None, **options: object) -> int:
    return run_command("bench", *([name] if name else []), **options)


@cli.command(help=COMMANDS["logs"].help)
@_name
@click.option("-f", "--follow", is_flag=True, help="go on with what is written from now on")
@click.option("-n", "--tail", metavar="N", type=click.IntRange(min=0), help="only the last N lines")
def logs(name: str, *, follow: bool, tail: int | None) -> int:
    return run_command("logs", name, follow=follow, tail=tail)


@cli.command(help=COMMANDS["events"].help)
@click.option("-f", "--follow", is_flag=True, help="go on with what happens from now on")
@click.option("-n", "--tail", metavar="N", type=click.IntRange(min=0), help="only the last N")
@_json
def events(*, follow: bool, tail: int | None, as_json: bool) -> int:
    return run_command("events", follow=follow, tail=tail, as_json=as_json)


@cli.group(help=COMMANDS["config"].help)
def config() -> None: ...


@config.command("show", help="the merged file; with --argv the exact command lines, one JSON object a line")
@_config
@click.option("--argv", is_flag=True, help="the command lines instead")
@click.option("--format", "form", type=click.Choice(["toml", "json"]), default="toml", show_default=True)
def config_show(config: str | None, *, argv: bool, form: str) -> int:
    from infer_dev.cli.config import show  # noqa: PLC0415 - pydantic

    return show(config, argv=argv, form=form)


@config.command("schema", help="the file format as JSON Schema, for editors")
def config_schema() -> int:
    from infer_dev.cli.config import schema  # noqa: PLC0415 - pydantic

    return schema()


@config.command("new", help="write a file to start from, for models that are here")
@click.argument("models", metavar="MODEL.gguf…", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="the file to write, instead of printing it")
def config_new(models: tuple[str, ...], *, output: str | None) -> int:
    from infer_dev.cli.config_new import new  # noqa: PLC0415 - only for this command

    return new(models, output=output)


@cli.command(help=COMMANDS["dashboard"].help)
@click.option("--url", metavar="URL", help="the API of another machine, such as http://rack:8081")
@click.option("--token-file", type=click.Path(), help="a file with its token, instead of $INFER_DEV_API_TOKEN")
@click.option("--plain", is_flag=True, help="lines for a screen reader: the table, again whenever something changes")
def dashboard(*, url: str | None, token_file: str | None, plain: bool) -> int:
    return run_command("dashboard", url=url, token_file=token_file, plain=plain)


@cli.command(help=COMMANDS["select"].help)
@click.argument("folder", metavar="[FOLDER]", required=False, type=click.Path())
def select(folder: str | None) -> int:
    return run_command("select", *([folder] if folder else []))


@cli.command(help=COMMANDS["gpus"].help)
@_json
def gpus(*, as_json: bool) -> int:
    return run_command("gpus", as_json=as_json)


@cli.command(help=COMMANDS["models"].help)
@click.argument("folders", metavar="[DIR…]", nargs=-1, type=click.Path())
@_json
def models(folders: tuple[str, ...], *, as_json: bool) -> int:
    return run_command("models", *folders, as_json=as_json)


@cli.group(help=COMMANDS["bundle"].help)
def bundle() -> None: ...


_prefix = click.option("--prefix", type=click.Path(), help="the folder installed to, instead of the usual one")


@bundle.command("install", help="verify an archive and make it current (default: $AUTO_INFER_LLAMA_CPP_PKG_PATH)")
@click.argument("archive", required=False, type=click.Path())
@click.option("--sha256", default="", help="the digest the archive must have")
@_prefix
@click.option("--limit", "limit_bytes", type=click.IntRange(min=1), help="refuse to unpack more than these bytes")
def bundle_install(archive: str | None, *, sha256: str, prefix: str | None, limit_bytes: int | None) -> int:
    from infer_dev.cli.bundle import install  # noqa: PLC0415 - only for this command

    return install(archive, sha256=sha256, prefix=prefix, limit_bytes=limit_bytes)


@bundle.command("list", help="the versions installed, the newest first")
@_prefix
@_json
def bundle_list(*, prefix: str | None, as_json: bool) -> int:
    from infer_dev.cli.bundle import show  # noqa: PLC0415 - only for this command

    return show(prefix=prefix, as_json=as_json)


@bundle.command("rollback", help="make the version before current again, or the one named")
@click.argument("version", metavar="[ID]", required=False)
@_prefix
def bundle_rollback(version: str | None, *, prefix: str | None) -> int:
    from infer_dev.cli.bundle import rollback  # noqa: PLC0415 - only for this command

    return rollback(version, prefix=prefix)


@bundle.command("remove", help="delete a version that is neither current nor in use")
@click.argument("version", metavar="ID")
@_prefix
def bundle_remove(version: str, *, prefix: str | None) -> int:
    from infer_dev.cli.bundle import remove  # noqa: PLC0415 - only for this command

    return remove(version, prefix=prefix)


@bundle.command("prune", help="delete old versions, not the current one nor any in use")
@click.option("--keep", type=click.IntRange(min=1), default=3, show_default=True, help="how many to keep")
@_prefix
def bundle_prune(*, keep: int, prefix: str | None) -> int:
    from infer_dev.cli.bundle import prune  # noqa: PLC0415 - only for this command

    return prune(keep=keep, prefix=prefix)


@bundle.command("create", help="make a bundle of a llama.cpp build tree or of an installed server")
@click.option("--from", "folder", required=True, type=click.Path(), help="the build tree, or the server's folder")
@click.option("-o", "--output", required=True, type=click.Path(), help="the archive to write")
@click.option("--with-system-libraries", is_flag=True, help="pack the libraries it needs from the system, too")
def bundle_create(folder: str, output: str, *, with_system_libraries: bool) -> int:
    from infer_dev.cli.bundle import create  # noqa: PLC0415 - only for this command

    return create(folder, output, with_system_libraries=with_system_libraries)


@cli.command(help=COMMANDS["completion"].help)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    return run_command("completion", shell, group=cli)
