"""What judged code can reach, how its process is started and ended, and the filter of system calls."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from judged import below

from m6rec_mini.course import remote, sandbox
from m6rec_mini.course.answers import Answer
from m6rec_mini.course.errors import Crashed, Gone, OutOfTime
from m6rec_mini.course.remote import NoServerError, Remote, Servers
from m6rec_mini.course.sandbox import ARCHITECTURES, CLONE, CLONE3, DENIED, Isolation, seccomp_program
from m6rec_mini.course.wire import HEAD, Packed, pack

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fork server needs a system that can fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    isolation = sandbox.strongest()
    if isolation.level != "sandbox":
        pytest.skip(f"no sandbox here: {isolation.why_not}")
    with Servers(isolation) as found:
        yield found


@pytest.fixture(scope="module")
def trusted() -> Iterator[Servers]:
    with Servers(Isolation("process")) as found:
        yield found


def cells(source: str) -> Packed:
    return pack({"cells": [[source, "other", "", 1]]})


def told(servers: Servers, source: str, seconds: float = 5.0, imports: tuple[str, ...] = ("numpy",)) -> object:
    """What `f()` of this code returns over there."""
    with servers.open(cells(source), imports) as link:
        return Answer(link, time.monotonic() + seconds).f()


# ---- what can be reached ---------------------------------------------------------------------


def test_values_and_arrays_come_back(servers: Servers) -> None:
    with servers.open(cells("def twice(x):\n    return {'x': 2 * x}")) as link:
        answer = Answer(link, time.monotonic() + 5)
        np.testing.assert_array_equal(answer.twice(np.arange(3.0))["x"], [0.0, 2.0, 4.0])
        assert answer.isolation == "sandbox"


def test_the_environment_holds_nothing_of_the_graders(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADEBOOK_PASSWORD", "xyzzy")
    found = told(servers, "import os\ndef f():\n    return dict(os.environ)")
    assert isinstance(found, dict)
    assert set(found) <= {*sandbox.environment(), "HOME", "TMPDIR", "PWD", "LC_CTYPE"}


def test_of_the_course_only_the_childs_own_modules_are_there(servers: Servers) -> None:
    code = """
        import os, sys, m6rec_mini
        def f():
            seen = [os.path.join(folder, name) for folder, _, names in os.walk("/course") for name in names]
            packages = [os.path.join(path, "m6rec_mini") for path in sys.path]
            return sorted(seen), [p for p in packages if os.path.isdir(p) and os.listdir(p)], list(m6rec_mini.__path__)
    """
    seen, packages, path = told(servers, dedent(code))  # type: ignore[misc]
    assert seen == [f"/course/{name}.py" for name in sorted(sandbox.VISIBLE)]
    assert packages == []
    assert path == []


def test_files_outside_cannot_be_read(servers: Servers, tmp_path: Path) -> None:
    secret = tmp_path / "gradebook.db"
    secret.write_text("secret")
    paths = [
        secret,
        Path(__file__),
        sandbox.COURSE / "checking.py",
        Path.home(),
        Path("/etc/passwd"),
        Path("/etc/shadow"),
    ]
    code = """
        import os
        def f(paths):
            found = []
            for path in paths + ["/proc/1/environ", "/proc/1/mem", "/proc/1/fd/0"]:
                try:
                    found.append((path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(9)))
                except OSError:
                    pass
            return found
    """
    with servers.open(cells(dedent(code))) as link:
        found = Answer(link, time.monotonic() + 5).f([str(path) for path in paths])
    inner = [path.relative_to(Path.home()).parts[0] for path in sandbox.pythons() if path.is_relative_to(Path.home())]
    assert [entry for entry in found if entry != (str(Path.home()), inner)] == []


def test_nothing_can_be_written_but_in_its_own_folder(servers: Servers) -> None:
    code = """
        import os, sys
        places = ["/", "/usr", "/etc", "/dev", "/dev/shm", "/course", "/root", "/proc/sys", sys.prefix, os.getcwd()]
        def f():
            done = []
            for place in places:
                try:
                    open(os.path.join(place, "mine"), "w").write("x")
                    done.append(place)
                except OSError:
                    pass
            return done, os.getcwd(), os.listdir(".")
    """
    for _ in range(2):  # the second finds nothing of the first
        written, folder, inside = told(servers, dedent(code))  # type: ignore[misc]
        assert written == [folder]
        assert inside == ["mine"]


def test_there_is_no_network_no_privilege_and_no_other_process(servers: Servers) -> None:
    code = """
        import ctypes, os, socket
        libc = ctypes.CDLL(None, use_errno=True)
        def denied(act, *args):
            try:
                return act(*args) == -1 and ctypes.get_errno()
            except OSError as error:
                return error.errno
        def f():
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            return {
                "socket": denied(socket.socket), "memory file": denied(os.memfd_create, "x"),
                "user namespace": denied(libc.unshare, 0x10000000), "shared memory": denied(libc.shmget, 1, 4096, 0o1666),
                "mount": denied(libc.mount, b"a", b"/usr", b"tmpfs", 0, 0),
                "trace": denied(libc.ptrace, 16, 1, 0, 0), "root": denied(os.setuid, 0), "kill": denied(os.kill, 1, 9),
            }, {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Uid")}, os.listdir("/proc")
    """
    errors, status, names = told(servers, dedent(code))  # type: ignore[misc]
    assert errors.pop("kill") in (errno.EPERM, False), "process 1 either refuses the signal or does not hear it"
    assert errors.pop("root") in (errno.EPERM, errno.EINVAL), "not allowed, or not even known"
    assert set(errors.values()) == {errno.EPERM}, errors
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert "0" not in status["Uid"].split()
    assert len([name for name in names if name.isdigit()]) == 2


def test_memory_of_one_submission_is_not_inherited_by_the_next(servers: Servers) -> None:
    marker = "".join(["only-in-", "the-first-", "submission"])
    assert told(servers, f"SECRET = {marker!r}\ndef f():\n    return SECRET") == marker
    code = f"""
        import ctypes
        def f():
            wanted, found = {"".join(reversed(marker))!r}[::-1].encode(), 0
            for line in open("/proc/self/maps").read().splitlines():
                if "rw-p" in line:
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    found += ctypes.string_at(start, end - start).count(b"SECRET = '" + wanted)
            return found
    """
    assert told(servers, dedent(code), 20) == 0
    own = f"SECRET = {marker!r}\n" + dedent(code)
    assert told(servers, own, 20), "the search finds nothing, even where there is something"


def test_the_sandbox_of_an_ordinary_user(servers: Servers) -> None:
    isolation = replace(servers.isolation, uid=None)
    with Servers(isolation) as found:
        code = "import os\ndef f():\n    return os.getppid(), os.getuid()"
        try:
            assert told(found, code) == (1, 65534)
        except NoServerError as error:
            pytest.skip(f"no user namespaces here: {error}")
        with pytest.raises(Crashed, match=r"Read-only|Permission"):
            told(found, "def f():\n    open('/mine', 'w')")
        assert told(found, "import os\ndef f():\n    return os.kill(os.getppid(), 9)") is None
        assert told(found, code) == (1, 65534)


# ---- how it ends -----------------------------------------------------------------------------


def test_a_process_that_leaves_says_how(servers: Servers) -> None:
    with pytest.raises(Gone, match="exit code 7"):
        told(servers, "import os\ndef f():\n    os._exit(7)")
    with pytest.raises(Gone, match="SIGSEGV"):
        told(servers, "import ctypes\ndef f():\n    ctypes.string_at(0)")


def test_time_out_kills_all_that_was_started(servers: Servers) -> None:
    code = """
        import os, signal, threading, time
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=time.sleep, args=(1000,)).start()
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                os._exit(0)
        def f():
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
    """
    server = servers.server()
    server.start()
    with pytest.raises(OutOfTime):
        told(servers, dedent(code), 0.5)
    assert server._process is not None
    assert len(below(server._process.pid)) == 1


def test_a_dead_server_is_replaced(servers: Servers) -> None:
    assert told(servers, "def f():\n    return 1") == 1
    server = servers.server()
    assert server._process is not None
    first = server._process.pid
    os.kill(first, signal.SIGKILL)
    time.sleep(0.05)
    assert told(servers, "def f():\n    return 2") == 2
    assert server._process.pid != first


def test_a_server_that_dies_at_work_costs_one_question(trusted: Servers) -> None:
    with pytest.raises(Gone):
        told(trusted, "import os, time\ndef f():\n    os.kill(os.getppid(), 9)\n    time.sleep(9)")
    assert told(trusted, "def f():\n    return 3") == 3


def test_without_a_sandbox_too_what_was_started_is_ended(trusted: Servers) -> None:
    server = trusted.server()
    server.start()
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\ndef f():\n    return os.getcwd()"
    )
    folder = told(trusted, code)
    assert server._process is not None
    assert isinstance(folder, str)
    assert not Path(folder).exists()
    if sys.platform.startswith("linux"):
        assert below(server._process.pid) == []


def test_a_closed_collection_leaves_no_process() -> None:
    with Servers() as found:
        told(found, "def f():\n    return 1")
        process = found.server()._process
    assert process is not None
    assert process.poll() is not None


def test_a_server_that_cannot_start_says_why() -> None:
    broken = Isolation("sandbox", sys.executable)
    with Servers(broken) as found, pytest.raises(NoServerError, match="did not start"):
        found.open(cells(""))


def test_where_nothing_can_fork_a_fresh_process_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FORKS", False)
    with Servers(Isolation("process")) as found:
        assert told(found, "def f():\n    print('noise')\n    return 4", 30) == 4
        with pytest.raises(OutOfTime):
            told(found, "while True:\n    pass\ndef f():\n    pass", 0.3)
        with pytest.raises(Gone, match="exit code 3"):
            told(found, "import os\ndef f():\n    os._exit(3)", 30)


def test_no_sandbox_elsewhere_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "bubblewraps", list)
    assert sandbox.strongest.__wrapped__().level == "process"
    assert "bubblewrap" in sandbox.strongest.__wrapped__().why_not
    monkeypatch.setattr(sandbox, "bubblewraps", lambda: ["/bin/false"])
    assert "exit code 1" in sandbox.strongest.__wrapped__().why_not


# ---- replies that are none -------------------------------------------------------------------

FORGE = """
import os
def f():
    for fd in range(64):
        try: os.write(fd, {data!r})
        except OSError: pass
    return 5
"""


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish",
        HEAD.pack(2**31, 0),
        HEAD.pack(10, 2**31),
        HEAD.pack(4, 0) + b"null",
        HEAD.pack(2, 0) + b"{}",
        HEAD.pack(40, 0) + b'["dict", ["error", ["list", 1, 2, 3, 4]]]'[:40],
        HEAD.pack(8, 0) + b'["dict"]',
        HEAD.pack(20_000, 0) + b"[" * 20_000,
        HEAD.pack(28, 0) + b'["array","<f8",[99999999],7]',
    ],
    ids=["rubbish", "large tree", "many frames", "null", "bare", "no words", "empty", "deep", "no frame"],
)
def test_forged_replies_are_nobodys_words(servers: Servers, data: bytes) -> None:
    with pytest.raises((Gone, OutOfTime)):
        told(servers, FORGE.format(data=data), 0.5)
    assert told(servers, "def f():\n    return 6") == 6


@pytest.mark.parametrize("big", ["np.zeros(9_000_000)", "['x' * 9_000_000]", "list(range(2_000_000))"])
def test_a_reply_has_a_limit(servers: Servers, big: str) -> None:
    with pytest.raises(Gone, match="give back"):
        told(servers, f"import numpy as np\ndef f():\n    return {big}", 20)


def test_a_reply_in_drops_has_one_deadline(servers: Servers) -> None:
    code = """
        import os, time
        def f():
            os.write(3, (100).to_bytes(4, "little") + bytes(4))
            while True:
                os.write(3, b" ")
                time.sleep(0.05)
    """
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        told(servers, dedent(code), 0.4)
    assert time.monotonic() - start < 4, "each drop began the clock anew"


def test_a_link_without_anybody_answers_that_nobody_is_there() -> None:
    with pytest.raises(Gone, match="closed"):
        Remote(None, "sandbox").request(pack(1), time.monotonic() + 1)


# ---- the filter of system calls --------------------------------------------------------------


def verdict(program: bytes, audit: int, number: int, argument: int = 0) -> int:
    """What the kernel would answer: a machine for the six instructions that the filter uses."""
    data = struct.pack("=IIQQ", number, audit, 0, argument)
    register, place = 0, 0
    while True:
        code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        if code == 0x20:
            register = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            test = {0x15: register == value, 0x35: register >= value, 0x45: bool(register & value)}[code]
            place += yes if test else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_denies_what_it_lists_and_nothing_else(machine: str) -> None:
    column, audit = ARCHITECTURES[machine]
    program, allow, no, unknown = (
        seccomp_program(machine),
        0x7FFF0000,
        0x00050000 | errno.EPERM,
        0x00050000 | errno.ENOSYS,
    )
    listed = {numbers[column] for numbers in DENIED.values()}
    for number in range(500):
        expected = no if number in listed else unknown if number == CLONE3[column] else allow
        assert verdict(program, audit, number) == expected, number
    assert verdict(program, audit ^ 1, 0) == no, "calls of another architecture"
    assert verdict(program, audit, 0x40000000) == no, "the other set of numbers"
    assert verdict(program, audit, CLONE[column]) == allow


def test_the_filter_reads_the_flags_of_clone() -> None:
    column, audit = ARCHITECTURES["x86_64"]
    data = struct.pack("=IIQQ", CLONE[column], audit, 0, 0x10000000 | 17)
    assert len(data) == 24
    assert verdict(seccomp_program("x86_64"), audit, CLONE[column], 0x10000000 | 17) == 0x00050001
    assert verdict(seccomp_program("x86_64"), audit, CLONE[column], 0x01200011) == 0x7FFF0000
    assert seccomp_program("riscv64") == b""
