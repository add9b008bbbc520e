"""One writer per run: a lock file whose modification time is the writer's heartbeat."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

#: A writer touches its lock this often (seconds) ...
BEAT = 5.0
#: ... and is taken for dead after this long a silence: network file systems cache times for up to 30 s.
SILENCE = 60.0

#: Tokens of the locks that this very process took.
_HELD_HERE: set[str] = set()


class RunBusyError(RuntimeError):
    """Another living process writes this run."""


def is_alive(path: Path) -> bool:
    """Whether the process that holds the lock ``path`` lives: it beats, and, on this host, its process exists."""
    try:
        age = time.time() - path.stat().st_mtime
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    if age > SILENCE:
        return False
    return owner["host"] != socket.gethostname() or _process_exists(owner["pid"])


class WriterLock:
    """Held from construction to ``release``; beats in a daemon thread, so a long step is no silence.

    Raises:
        RunBusyError: if another living process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._pid = os.getpid()
        # Before the lock can be seen: another thread would take it for a leftover of a process with our number.
        _HELD_HERE.add(self._token)
        self._acquire()
        self._thread = threading.Thread(target=self._beat, name="molifold-run-heartbeat", daemon=True)
        self._thread.start()

    @property
    def held(self) -> bool:
        """Whether the lock is still ours (a suspended process may have lost it meanwhile)."""
        try:
            return bool(json.loads(self._path.read_text())["token"] == self._token)
        except (OSError, ValueError):
            return False

    def release(self) -> None:
        """Stop the heartbeat and give the lock back; safe to call twice."""
        if not self._stop.is_set() and os.getpid() == self._pid:
            self._stop.set()
            self._thread.join()
            if self.held:
                self._path.unlink(missing_ok=True)

    def _acquire(self) -> None:
        if self._path.exists():
            if is_alive(self._path) and not self._is_leftover():
                owner = json.loads(self._path.read_text())
                raise RunBusyError(
                    f"{self._path.parent}: process {owner['pid']} on {owner['host']} is writing this run; stop it "
                    "first, or write to another directory"
                )
            # Renaming is atomic, so of two processes that find the same dead lock only one goes on.
            dead = self._path.with_name(f".{self._token}.dead")
            try:
                self._path.rename(dead)
            except FileNotFoundError:
                pass
            else:
                dead.unlink()
        mine = self._path.with_name(f".{self._token}.tmp")
        mine.write_text(json.dumps({"pid": self._pid, "host": socket.gethostname(), "token": self._token}) + "\n")
        try:
            # A hard link appears whole and fails if the name exists: nobody reads half a lock.
            os.link(mine, self._path)
        except FileExistsError:
            raise RunBusyError(f"{self._path.parent}: another process has just started to write this run") from None
        except OSError:  # a file system without hard links
            with self._path.open("x") as file:
                file.write(mine.read_text())
        finally:
            mine.unlink()

    def _is_leftover(self) -> bool:
        # After a container restart the dead writer's process number may be our own.
        owner = json.loads(self._path.read_text())
        mine = owner["pid"] == os.getpid() and owner["host"] == socket.gethostname()
        return mine and owner["token"] not in _HELD_HERE

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                if self.held:
                    os.utime(self._path)
            except OSError:  # a network file system may hiccup; the next beat tells
                continue


def _process_exists(pid: int) -> bool:
    if os.name == "nt":  # os.kill(pid, 0) would end the process there; trust the heartbeat
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed child that nobody has waited for still has a number; it writes nothing any more.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
