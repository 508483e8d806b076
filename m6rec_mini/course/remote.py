"""The trusted end: servers that are kept warm, and the link from a grader to one answer.

Every wait has a deadline and every reply a limit of size, since what is at the other end may be hostile.
A server that dies is started again for the next question; the level of isolation never changes on the way.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, TypeVar, cast, runtime_checkable

from m6rec_mini.course.answers import NO_RESULT
from m6rec_mini.course.errors import Gone, OutOfTime
from m6rec_mini.course.sandbox import Isolation, environment, seccomp_file, strongest
from m6rec_mini.course.server import FORK, OVER, WHY
from m6rec_mini.course.wire import Packed, WireError, receive, send, unpack

LARGEST_REPLY, LARGEST_TREE = 64 * 2**20, 8 * 2**20  # bytes in all, and of what becomes Python objects
MEMORY = {"numpy": 2**30, "torch": 2 * 2**30}  # bytes that an answer may use
START, CLEAN = 120.0, 8.0  # seconds for a server to start, and to clean up after an answer
FORKS = hasattr(os, "fork")
Result = TypeVar("Result")


class NoServerError(RuntimeError):
    """The process for judged code did not start; nothing was graded."""


@runtime_checkable
class Line(Protocol):
    """A two-way connection to judged code."""

    def send(self, packed: Packed, deadline: float) -> None:
        """Raises TimeoutError after the deadline, or another OSError."""
        ...

    def receive(self, deadline: float) -> Packed:
        """Raises TimeoutError after the deadline, EOFError or another OSError, WireError for what is no message."""
        ...

    def end(self, gone: bool) -> str:
        """Be done with it, whatever still runs. Returns in words what ended it, if it was `gone` by itself."""
        ...


class Remote:
    """A Link to one answer in another process; a context manager that ends it. `job` goes before the first request."""

    def __init__(self, line: Line | None, isolation: str, job: Packed | None = None) -> None:
        self.isolation = isolation
        self._line = line  # None: nobody is there to be asked
        self._job, self._lost = job, "The process with your code has been closed."

    def request(self, packed: Packed, deadline: float) -> Packed:
        """The reply. Raises OutOfTime after `deadline` (of time.monotonic), Gone if nobody is left to answer."""
        if self._line is None:
            raise Gone(self._lost)
        try:
            if self._job is not None:
                self._line.send(self._job, deadline)
                self._job = None
            self._line.send(packed, deadline)
            reply = self._line.receive(deadline)
            if len(reply.tree) > LARGEST_TREE:
                raise WireError("too many values; give back arrays")
            return reply
        except TimeoutError:
            self._lose("The process with your code was stopped, since its time was over")
            raise OutOfTime from None
        except WireError as error:
            self._lose(f"{NO_RESULT}: {error}")
        except (EOFError, OSError):
            self._lose("The process with your code ended in the middle of its work", gone=True)
        raise Gone(self._lost)

    def _lose(self, why: str, gone: bool = False) -> None:
        line, self._line = self._line, None
        ended = line.end(gone) if line is not None else ""
        self._lost = f"{why}: {ended}." if ended else f"{why}."

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._lose("It is over")


class Servers:
    """A warm server for each set of imports, started when first needed. A context manager.

    For one thread, which should live as long: the kernel ends a server with the thread that started it.

    `hide` are folders that judged code must not see even where Python's own folders hold them.
    """

    def __init__(self, isolation: Isolation | None = None, hide: Iterable[Path] = ()) -> None:
        self.isolation = isolation or strongest()
        self.hide = tuple(hide)
        self._warm: dict[tuple[str, ...], _Server] = {}

    @property
    def level(self) -> str:
        """How well code is shut in: "sandbox" or "process"."""
        return self.isolation.level

    def open(self, job: Packed | None = None, imports: tuple[str, ...] = ("numpy",), seconds: float = 10.0) -> Remote:
        """A process of its own for one job (see `server`). Raises NoServerError if none can be started."""
        memory = max(MEMORY.get(name, 0) for name in imports)
        line = self.server(imports).fork(memory, seconds) if FORKS else _PipeLine(self.isolation, imports)
        return Remote(line, self.level, job)

    def server(self, imports: tuple[str, ...] = ("numpy",)) -> _Server:
        """The server with these imports; it starts with the first question, or by `start`."""
        return self._warm.setdefault(imports, _Server(self.isolation, imports, self.hide))

    def close(self) -> None:
        """End all servers and all that runs in them."""
        for server in self._warm.values():
            server.stop()
        self._warm.clear()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- a fork of a warm server -----------------------------------------------------------------


class _Server:
    def __init__(self, isolation: Isolation, imports: tuple[str, ...], hide: tuple[Path, ...]) -> None:
        self.isolation, self.imports, self.hide = isolation, imports, hide
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> socket.socket:
        """Wait until it is warm, if it is not yet."""
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self.stop()
        self._control, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as errors, seccomp_file() as seccomp:
            settings: dict[str, object] = {"imports": self.imports}
            if self.isolation.level == "process":
                self._scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
                settings["scratch"] = self._scratch.name
            command = self.isolation.command(settings, self.hide, seccomp.fileno)
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=errors, env=environment(),
                pass_fds=seccomp.fds, start_new_session=True,
            )  # fmt: skip
            theirs.close()
            try:
                receive(_stream(self._control, time.monotonic() + START))
            except (OSError, EOFError, WireError) as error:
                self.stop()
                errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
                said = errors.read().decode(errors="replace").strip() or str(error)
                raise NoServerError(f"the process for judged code did not start: {said}") from None
        return self._control

    def fork(self, memory: int, seconds: float) -> _SocketLine:
        for last in (False, True):
            control = self.start()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(control, [FORK.pack(memory, math.ceil(seconds))], [theirs.fileno()])
                    return _SocketLine(ours, self)
                except OSError as error:  # it died in between, so once more
                    ours.close()
                    self.stop()
                    if last:
                        raise NoServerError(f"the process for judged code ended: {error}") from error
        raise AssertionError

    def over(self, gone: bool) -> str:
        """Have the child and all that it started killed; returns what ended it, if it was gone."""
        try:
            control = self._control
            assert control is not None
            control.sendall(WHY if gone else OVER)
            told = unpack(receive(_stream(control, time.monotonic() + CLEAN)))
        except (OSError, EOFError, WireError):
            self.stop()
            return ""
        if not told["clean"]:
            self.stop()
        return str(told["why"])

    def stop(self) -> None:
        if self._control is not None:
            self._control.close()  # it kills its child and ends when it sees that
        if self._process is not None:
            try:
                self._process.wait(CLEAN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._control = self._process = self._scratch = None


class _SocketLine:
    def __init__(self, ours: socket.socket, server: _Server) -> None:
        self._socket, self._server = ours, server

    def send(self, packed: Packed, deadline: float) -> None:
        send(_stream(self._socket, deadline), packed)

    def receive(self, deadline: float) -> Packed:
        return receive(_stream(self._socket, deadline))

    def end(self, gone: bool) -> str:
        self._socket.close()
        return self._server.over(gone)


class _Timed(io.RawIOBase):
    """A socket as a stream for one message, with one deadline for all of it and a limit of bytes."""

    mode, name = "rb+", "<judged code>"

    def __init__(self, wire: socket.socket, deadline: float) -> None:
        super().__init__()
        self._wire, self._deadline = wire, deadline
        self._left, self._parts = LARGEST_REPLY, list[bytes]()

    def _hurry(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._wire.settimeout(left)

    def read(self, size: int = 1) -> bytes:
        if size > self._left:
            raise WireError(f"more than {LARGEST_REPLY >> 20} MiB; give back less")
        self._hurry()
        part = self._wire.recv(min(size, 2**20))
        self._left -= len(part)
        return part

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        data, self._parts = b"".join(self._parts), []
        if data:
            self._hurry()
            self._wire.sendall(data)


def _stream(wire: socket.socket, deadline: float) -> BinaryIO:
    return cast(BinaryIO, _Timed(wire, deadline))


# ---- a fresh process, where there is no fork -------------------------------------------------


class _PipeLine:
    def __init__(self, isolation: Isolation, imports: tuple[str, ...]) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = isolation.command({"imports": imports, "once": True})
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
            cwd=self._folder.name,
        )  # fmt: skip

    def send(self, packed: Packed, deadline: float) -> None:
        pipe = cast(BinaryIO, self._process.stdin)
        _within(deadline, lambda: send(pipe, packed))

    def receive(self, deadline: float) -> Packed:
        assert self._process.stdout is not None
        limited = cast(BinaryIO, _Limited(self._process.stdout))
        return _within(deadline, lambda: receive(limited))

    def end(self, gone: bool) -> str:
        if gone:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()
        self._folder.cleanup()
        return f"exit code {code}" if gone else ""


class _Limited(io.RawIOBase):
    """A stream that gives no more bytes than a reply may have."""

    mode, name = "rb", "<judged code>"

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream, self._left = stream, LARGEST_REPLY

    def read(self, size: int = 1) -> bytes:
        if size > self._left:
            raise WireError(f"more than {LARGEST_REPLY >> 20} MiB; give back less")
        part = self._stream.read(min(size, 2**20))
        self._left -= len(part)
        return part


def _within(deadline: float, act: Callable[[], Result]) -> Result:
    """A pipe of Windows knows no time-out, so a thread waits for it; it ends when the process is killed."""
    done: list[Result] = []
    failed: list[Exception] = []

    def try_it() -> None:
        try:
            done.append(act())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError
    return done[0]
