"""The process in which judged code runs: it imports once, then forks for each question of each submission.

The server itself never sees an answer. It is told "fork", hands the child its end of a socket, and
watches; the child reads the cells from that socket, so nothing of one submission lies in the memory that
the next one inherits. A child has its own session, limits, empty folder, and nobody else's files open;
when its question is over, everything that it started is killed and its folder emptied. Where that cannot
be done the server ends, and the trusted side starts another.

In the sandbox the server is process 1 of its namespace, which nothing inside can signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import m6rec_mini.course
from m6rec_mini.course.cells import Cell
from m6rec_mini.course.forbidden import forbidden_use
from m6rec_mini.course.local import Call, Local
from m6rec_mini.course.namespace import run_cells
from m6rec_mini.course.unsolved import demo
from m6rec_mini.course.wire import pack, receive, send, unpack

FORK = struct.Struct("<QI")  # bytes of memory, seconds: one request, with the child's socket beside it
OVER, WHY = b".", b"?"  # the question is over; and: the child has gone, what ended it?
LINUX = sys.platform.startswith("linux")
NO_MEMORY = 90  # exit code
TICK = 0.05  # seconds between two looks at a child
MOST_FILES, MOST_PROCESSES, MOST_OPEN, LARGEST_FILE = 5_000, 24, 64, 32 * 2**20


def main(settings: str) -> None:
    """Serve until the trusted side has gone; "once" answers a single question over stdin and stdout."""
    told = json.loads(settings)
    vars(m6rec_mini.course).update(demo=demo, check=_no_check)
    for name in told["imports"]:
        __import__(name)
    if told.get("once"):
        reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        _mute()
        return _answer(reading, writing)
    control = socket.socket(fileno=os.dup(0))
    if LINUX:
        _protect()
    _warm(told["imports"])
    send(control.makefile("wb"), pack("ready"))
    _mute()
    return _serve(control, Path(told["scratch"]), told["uid"])


def _no_check(*_: object) -> float:
    """Stands in for `check` in judged code."""
    return 0.0


def _mute() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def _protect() -> None:
    """Not dumpable, so that no child reads or traces this process; no new privileges; orphans come here."""
    for option, value in ((4, 0), (38, 1), (36, 1)):
        _prctl(option, value)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _warm(imports: Sequence[str]) -> None:
    """What each child would otherwise do for the first time."""
    import numpy as np

    run_cells([Cell("import numpy as np\nx = np.ones((4, 4)) @ np.ones((4, 4))")])
    Local({"total": np.sum}).request(pack(Call("total", [[1.0, 2.0]]).plain()))
    if "torch" in imports:
        import torch

        torch.set_num_threads(1)
        torch.softmax(torch.ones(4, 4) @ torch.ones(4, 4), -1)
    gc.collect()
    gc.freeze()


# ---- the parent ------------------------------------------------------------------------------


def _serve(control: socket.socket, scratch: Path, uid: int | None) -> None:
    base = _own_memory(os.getpid())
    while True:
        request, fds, _, _ = socket.recv_fds(control, FORK.size, 1)
        if len(request) != FORK.size or not fds:
            return  # the trusted side has gone
        memory, seconds = FORK.unpack(request)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _child(fds[0], scratch, uid, memory, seconds)
                code = 0
            except MemoryError:
                code = NO_MEMORY
            finally:
                os._exit(code)
        os.close(fds[0])
        there, why = _watch(control, child, scratch, memory, base)
        _kill_all(child)
        clean = _emptied(scratch, uid) and not _left_in_kernel()
        if not there:
            return
        send(control.makefile("wb"), pack({"why": why, "clean": clean}))
        if not clean:
            return


def _watch(control: socket.socket, child: int, scratch: Path, memory: int, base: int) -> tuple[bool, str]:
    """Wait for the end of the question: whether anybody is left to tell, and what ended the child before that."""
    why = ""
    while True:
        if select.select([control], [], [], TICK)[0]:
            said = control.recv(1)
            end = time.monotonic() + (0.2 if said == WHY else 0)
            while not why and time.monotonic() < end:  # its files close a moment before it can be reaped
                time.sleep(0.001)
                why = _reaped(child)
            return bool(said), why
        why = why or _reaped(child) or _too_much(scratch, memory, base)
        if why:
            _kill_all(child)  # whoever still holds the socket goes, and so the trusted side hears of it


def _reaped(child: int) -> str:
    """How the child ended, or "" while it runs; other processes that ended are let go."""
    found = ""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                left = "it ran out of memory" if code == NO_MEMORY else f"it left with exit code {code}"
                found = f"killed by {signal.Signals(-code).name}" if code < 0 else left
    return found


def _too_much(scratch: Path, memory: int, base: int) -> str:
    """Which limit all processes together have passed, since each of them has its own."""
    if not LINUX:
        return ""
    if os.getpid() == 1 and sum(max(0, _own_memory(pid) - base) for pid in _processes()) > memory:
        return f"it used more than {memory >> 20} MiB of memory"
    use = os.statvfs(scratch)
    if os.getpid() == 1 and use.f_files - use.f_ffree > MOST_FILES:
        return f"it made more than {MOST_FILES} files"
    return ""


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")  # noqa: PTH208


def _own_memory(pid: int) -> int:
    """Bytes that a process shares with no file; 0 where that cannot be known."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _kill_all(child: int) -> None:
    """End the child and what it started. In the sandbox that is everything else in the namespace."""
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(child, signal.SIGKILL)
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)  # then look again, since the orphans of this one have come here
        except ChildProcessError:
            return


def _children() -> list[int]:
    """Direct children, and orphans that came here."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _emptied(scratch: Path, uid: int | None) -> bool:
    """Whether the folder is empty again; a helper with the child's uid removes what that uid left there."""
    with contextlib.suppress(OSError):
        (scratch / "work").rmdir()
    if not any(scratch.iterdir()):
        return True
    helper = os.fork()
    if helper == 0:
        try:
            _become(uid)
            for path in scratch.iterdir():
                _remove(path)
        finally:
            os._exit(0)
    end = time.monotonic() + 5
    while os.waitpid(helper, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return not any(scratch.iterdir())


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        return path.unlink()
    for folder, names, _ in os.walk(path):  # top down, so each can be entered before it is
        for name in names:
            if not (inner := Path(folder, name)).is_symlink():
                inner.chmod(stat.S_IRWXU)
    return shutil.rmtree(path)


def _left_in_kernel() -> bool:
    """System V memory, semaphores or messages outlive their process; where no filter forbids them, start afresh."""
    if os.getpid() != 1:
        return False
    return any(len(Path(f"/proc/sysvipc/{kind}").read_text().splitlines()) > 1 for kind in ("shm", "sem", "msg"))


# ---- the child -------------------------------------------------------------------------------


def _child(fd: int, scratch: Path, uid: int | None, memory: int, seconds: int) -> None:
    os.setsid()
    os.dup2(fd, 3)
    os.closerange(4, 1 << 16)
    _become(uid)
    if LINUX:
        _prctl(1, signal.SIGKILL)  # when the server dies
    folder = scratch / "work"
    folder.mkdir(mode=0o700)
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder))
    _limit(memory, seconds)
    _seed()
    with socket.socket(fileno=3) as line:
        _answer(line.makefile("rb"), line.makefile("wb"))


def _become(uid: int | None) -> None:
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def _limit(memory: int, seconds: int) -> None:
    import resource

    limits = {"CORE": 0, "FSIZE": LARGEST_FILE, "NOFILE": MOST_OPEN, "CPU": seconds + 1, "MEMLOCK": 0, "MSGQUEUE": 0}
    if LINUX:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits |= {"AS": pages * os.sysconf("SC_PAGE_SIZE") + memory}
    if os.getppid() == 1:  # in the sandbox; elsewhere it would count all that this user runs
        limits |= {"NPROC": MOST_PROCESSES}
    for name, limit in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            with contextlib.suppress(ValueError, OSError):  # a lower one holds already
                resource.setrlimit(kind, (limit, limit))


def _seed() -> None:
    """Code that forgot to seed gets the same grade twice."""
    random.seed(0)
    sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _answer(reading: BinaryIO, writing: BinaryIO) -> None:
    """Do what the first message says: look for forbidden names, or run cells and then answer calls into them."""
    job: Mapping[str, Any] = unpack(receive(reading))
    if "questions" in job:
        found = [forbidden_use(job["sources"], name, forbidden) for name, forbidden in job["questions"]]
        return send(writing, pack(found))
    local = Local(run_cells([Cell(*cell) for cell in job["cells"]]))
    with contextlib.suppress(EOFError):
        while True:
            send(writing, local.request(receive(reading)))
    return None
