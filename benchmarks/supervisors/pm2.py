"""pm2 as one of the supervisors."""

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.stage import ROOT
from benchmarks.supervisors.births import until
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer

PREFIX = ROOT / ".cache" / "pm2"
PROGRAM = PREFIX / "node_modules" / ".bin" / "pm2"
PACKAGE = "pm2@7"


class Pm2(Peer):
    """Asked by its command line alone, which is how its users ask it."""

    name = "pm2"
    can_be_asked: ClassVar[bool] = False
    why_not: ClassVar[Mapping[str, str]] = {
        "start": "by its command line alone",
        "stop": "by its command line alone",
    }
    settle_s: ClassVar[float] = 2.0  # min_uptime is 1

    @classmethod
    def missing(cls) -> str:
        return "" if PROGRAM.exists() else "not installed: pm2 (--install has npm fetch it)"

    @classmethod
    def install(cls) -> None:
        PREFIX.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(PREFIX), "--no-audit", "--no-fund", PACKAGE]
        with contextlib.suppress(OSError):  # no npm
            subprocess.run(command, cwd=PREFIX, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def describe(self) -> None:
        home = self.folder / "pm2"
        home.mkdir(exist_ok=True)
        (home / "touch").touch()  # else it tells its maker over the network that it was installed
        self.environ |= {"PM2_HOME": str(home), "PM2_DISABLE_VERSION_CHECK": "true"}
        apps = [
            {
                "name": one.name,
                "script": one.command,
                "args": one.argv[1:],
                "interpreter": "none",
                "exec_mode": "fork",
                "kill_timeout": STOP_LIMIT_S * 1000,
                "out_file": f"{self.folder}/{one.name}.log",
                "error_file": f"{self.folder}/{one.name}.err",
                "merge_logs": True,
            }
            for one in self.services
        ]
        self.config = self.folder / "ecosystem.config.json"
        self.config.write_text(json.dumps({"apps": apps}))

    def begin(self) -> None:
        self._pm2("ping")
        until((self.folder / "pm2" / "pm2.pid").exists, READY_S, "pm2's daemon")
        if self.autostart:
            self.start(self.names)

    def root(self) -> int:
        return int((self.folder / "pm2" / "pm2.pid").read_text())

    def start(self, names: Sequence[str]) -> None:
        some = [] if list(names) == self.names else ["--only", ",".join(names)]
        self._pm2("start", str(self.config), *some)

    def stop(self, names: Sequence[str]) -> None:
        self._pm2("stop", *(["all"] if list(names) == self.names else names))

    def start_command(self) -> Sequence[str]:
        return [str(PROGRAM), "start", str(self.config)]

    def stop_command(self) -> Sequence[str]:
        return [str(PROGRAM), "stop", "all"]

    def log_files(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.log"]

    def _pm2(self, *args: str) -> None:
        self.command([str(PROGRAM), *args], patient=False)
