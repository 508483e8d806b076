"""What judged code can reach, how its process is started and ended, and the filter of system calls."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from judged import cells, sandboxed, told

from m6rec_mini.course import sandbox
from m6rec_mini.course.answers import Answer
from m6rec_mini.course.errors import Crashed
from m6rec_mini.course.remote import NoServerError, Servers
from m6rec_mini.course.sandbox import ARCHITECTURES, CLONE, CLONE3, DENIED, seccomp_program

PYTHONS = sandbox.pythons()
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fork server needs a system that can fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with sandboxed(2**30) as found:
        yield found


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
                "user namespace": denied(libc.unshare, 0x10000000),
                "shared memory": denied(libc.shmget, 1, 4096, 0o1666),
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


def test_hidden_folders_stay_hidden_within_those_of_python(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("packages/site-packages", "course/venv/site-packages"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").touch()
    (tmp_path / "course/solution.py").touch()
    tmp_path.chmod(0o755)
    paths = [str(tmp_path), str(tmp_path / "course/venv/site-packages")]
    monkeypatch.setattr(sandbox, "pythons", lambda: [*PYTHONS, *map(Path, paths)])
    code = (
        "import os\ndef f(top):\n    return sorted(os.path.join(a, x) for a, _, names in os.walk(top) for x in names)"
    )
    with Servers(servers.isolation, hide=[tmp_path / "course", tmp_path / "none"]) as found:
        with found.open(cells(code)) as link:
            seen = Answer(link, time.monotonic() + 9).f(str(tmp_path))
        with pytest.raises(Crashed, match=r"Read-only|Permission"):
            told(found, f"def f():\n    open({str(tmp_path / 'course/mine')!r}, 'w')")
    assert [Path(path).relative_to(tmp_path).as_posix() for path in seen] == [
        "course/venv/site-packages/module.py",
        "packages/site-packages/module.py",
    ]


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
