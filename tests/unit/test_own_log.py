"""A process that keeps its own log small: a real one each, whose stderr is the log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BEGIN = """
import os, sys
from infer_dev.host.log.own import OwnLog
path = sys.argv[1]
log = OwnLog(path, most_bytes=1000)
def say(text):
    os.write(2, (text + "\\n").encode())
"""


def run(path: Path, script: str, *, link: Path | None = None) -> None:
    """Run a script whose stdout and stderr are appended to `path`; it is told the path `link` instead, if given."""
    with path.open("ab") as file:
        subprocess.run(
            [sys.executable, "-c", BEGIN + script, link or path], cwd=ROOT, stdout=file, stderr=file, check=False
        )


def test_log_that_has_grown_is_kept_in_parts_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    run(path, "for number in range(60):\n    say(f'{number:049}')\n    log.look()")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    kept = "".join((tmp_path / f"daemon.log{end}").read_text() for end in (".2", ".1", ""))
    numbers = [int(line) for line in kept.splitlines()]
    assert numbers == list(range(60))[-len(numbers) :]
    assert len(numbers) > 40
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("crash", "told"), [("raise RuntimeError('lost')", "RuntimeError: lost"), ("os.abort()", "Fatal Python error")]
)
def test_crash_after_a_rotation_stands_in_the_log(crash: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    run(path, f"import faulthandler\nfaulthandler.enable()\nsay('x' * 2000)\nlog.look()\nprint('out')\n{crash}")
    assert told in path.read_text()
    assert "x" * 2000 in Path(f"{path}.1").read_text()


@pytest.mark.parametrize("away", ["os.unlink(path)", "os.rename(path, path + '.old')"])
def test_log_that_others_delete_or_move_is_there_again(away: str, tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    run(path, f"say('before')\n{away}\nlog.look()\nsay('after')\nprint('too')")
    assert path.read_text().splitlines() == ["after", "too"]


def test_log_that_others_have_rotated_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    run(
        path, "say('before')\nos.rename(path, path + '.7')\nopen(path, 'w').write('new\\n')\nlog.look()\nsay('after')"
    )
    assert path.read_text().splitlines() == ["new", "after"]


def test_what_a_killed_rotation_left_is_used_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    path.write_text("x" * 2000 + "\n")
    Path(f"{path}.new").write_text("left by one that was killed\n")
    run(path, "log.look()\nsay('after')")
    assert path.read_text() == "after\n"
    assert not Path(f"{path}.new").exists()


def test_what_is_not_the_log_of_this_process_is_left_alone(tmp_path: Path) -> None:
    real, link, other = tmp_path / "real", tmp_path / "daemon.log", tmp_path / "other"
    link.symlink_to(real)
    other.write_text("x" * 2000)
    script = "say('x' * 2000)\nlog.look()"
    run(real, script, link=link)  # a user has put it elsewhere
    run(real, script, link=other)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["daemon.log", "other", "real"]
    assert real.stat().st_size == 4002


def test_link_in_the_place_of_a_deleted_log_is_not_followed(tmp_path: Path) -> None:
    path, precious = tmp_path / "daemon.log", tmp_path / "precious"
    precious.write_text("untouched\n")
    run(path, f"os.unlink(path)\nos.symlink({str(precious)!r}, path)\nlog.look()\nsay('after')")
    assert precious.read_text() == "untouched\n"


def test_log_whose_folder_is_gone_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    result = tmp_path / "result"
    run(
        folder / "daemon.log",
        f"import shutil\nshutil.rmtree(os.path.dirname(path))\ntry:\n    log.look()\nexcept OSError:\n    pass\n"
        f"os.mkdir(os.path.dirname(path))\nlog.look()\nsay('after')\nopen({str(result)!r}, 'w').write('done')",
    )
    assert result.read_text() == "done"
    assert (folder / "daemon.log").read_text() == "after\n"


def test_log_of_boot_belongs_to_the_owner_of_its_folder_who_keeps_it_small(tmp_path: Path) -> None:
    owner = 12345 if os.getuid() == 0 else os.getuid()
    os.chown(tmp_path, owner, -1)
    path = tmp_path / "boot.log"
    script = "from infer_dev.boot import report\nreport.spare_the_terminal(sys.argv[1])\nreport.info('begins')"
    subprocess.run([sys.executable, "-c", f"import sys\n{script}", path], cwd=ROOT, check=True)
    assert path.stat().st_uid == owner
    assert path.read_text().endswith(" INFO boot: begins\n")
