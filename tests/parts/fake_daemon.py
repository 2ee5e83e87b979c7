"""Plays the daemon under boot, to show what a real one cannot be made to show. Writes what happens to a file.

fake_daemon.py LOG [--beats N] [--beat-after S] [--ignore-sigterm]: silent for S seconds and after N heartbeats.
Each line of LOG is its pid, then `start`, `beat`, a signal's name, or what boot said.
"""

import faulthandler
import os
import select
import signal
import socket
import sys
import time

BEAT_S = 0.1
ENDLESS = 10**9


def main(log: str, *flags: str) -> None:
    beats = int(flags[flags.index("--beats") + 1]) if "--beats" in flags else ENDLESS
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(word: str) -> None:
        os.write(out, f"{os.getpid()} {word}\n".encode())

    def on_signal(number: int, _: object) -> None:
        note(signal.Signals(number).name)
        if number == signal.SIGTERM and "--ignore-sigterm" not in flags:
            os._exit(0)

    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    link = socket.socket(fileno=int(os.environ["INFER_DEV_BOOT_FD"]))
    note("start")
    time.sleep(float(flags[flags.index("--beat-after") + 1]) if "--beat-after" in flags else 0)
    run(link, beats, note)


def run(link: socket.socket, beats: int, note: object) -> None:
    assert callable(note)
    sent, next_beat = 0, time.monotonic()
    while True:
        if sent < beats and time.monotonic() >= next_beat:
            try:
                link.send(b"beat\n")
            except OSError:
                os._exit(3)  # boot is gone, as below
            note("beat")
            sent, next_beat = sent + 1, time.monotonic() + BEAT_S
        if select.select([link], [], [], BEAT_S)[0]:
            if not (packet := link.recv(128)):
                os._exit(3)
            note(packet.decode().strip())


if __name__ == "__main__":
    main(*sys.argv[1:])
