"""Hostile submissions: each gets exactly what it earned, and neither the next nor the machine is harmed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from judged import ALL, GOOD, below, earned, graded, sandboxed, with_little_time

from m6rec_mini.course import grading
from m6rec_mini.course.remote import Servers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fork server needs a system that can fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with sandboxed(160 * 2**20) as found:
        yield found


@dataclass(frozen=True)
class Hostile:
    """What is put into `double`, or at the top of the file, and what is still earned."""

    inside: str = "return 2 * x"
    top: str = ""
    double: float = 0.0
    tally: float = 3.0
    says: str = ""  # in the messages of `double`
    endless: tuple[str, ...] = ()  # questions whose time is used up

    def source(self) -> str:
        body = "\n".join("    " + line for line in dedent(self.inside).strip().splitlines())
        return dedent(self.top) + GOOD.replace("    return 2 * x", body)


BOTH = ("double", "Tally")
HOSTILE = {
    "endless loop": Hostile("while True: pass", says="still running", endless=("double",)),
    "loop that catches everything": Hostile(
        """
        while True:
            try:
                while True: pass
            except BaseException:
                pass
        """,
        says="still running",
        endless=("double",),
    ),
    "endless loop in a cell": Hostile(top="while True: pass\n", tally=0, says="still running", endless=BOTH),
    "sleeping import": Hostile(top="import time; time.sleep(600)\n", tally=0, says="still running", endless=BOTH),
    "ignores every signal": Hostile(
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass
        """,
        says="still running",
        endless=("double",),
    ),
    "stops itself": Hostile("import os\nos.kill(os.getpid(), 19)", says="still running", endless=("double",)),
    "os._exit": Hostile("import os; os._exit(0)", says="exit code 0"),
    "SystemExit": Hostile("raise SystemExit", says="SystemExit"),
    "SystemExit in a cell": Hostile(top="raise SystemExit\n# %%\n", double=3),
    "exit in a cell": Hostile(top="import os; os._exit(1)\n", tally=0, says="exit code 1"),
    "kills its parent": Hostile(
        """
        import os, signal
        for pid in (os.getppid(), 1):
            try: os.kill(pid, signal.SIGKILL)
            except OSError: pass
        return 2 * x
        """,
        double=3,
    ),
    "kills its group": Hostile("import os; os.killpg(0, 9)", says="SIGKILL"),
    "kills all": Hostile("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nreturn 2 * x", double=3),
    "fork bomb": Hostile(
        """
        import os, time
        while True:
            try: os.fork()
            except OSError: time.sleep(0.01)
        """,
        says="still running",
        endless=("double",),
    ),
    "forks that outlive it": Hostile(
        """
        import os, time
        if not os.path.exists("forked"):
            open("forked", "w").close()
            for _ in range(5):
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(1000)
        return 2 * x
        """,
        double=3,
    ),
    "many threads": Hostile(
        """
        import threading, time
        try:
            while True: threading.Thread(target=time.sleep, args=(1000,)).start()
        except RuntimeError:
            return 2 * x
        """,
        double=3,
    ),
    "growing memory": Hostile("kept = []\nwhile True: kept.append(bytearray(2**22))", says="MemoryError"),
    "memory of many processes": Hostile(
        """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                kept = bytearray(b"x") * (100 * 2**20)
                time.sleep(1000)
        time.sleep(1000)
        """,
        says="more than 160 MiB",
    ),
    "recursion": Hostile("return double(x)", says="RecursionError"),
    "crashes the interpreter": Hostile("import ctypes; ctypes.string_at(0)", says="SIGSEGV"),
    "prints 100 MB": Hostile("for _ in range(100): print('x' * 2**20)\nreturn 2 * x", double=3),
    "writes 100 MB to standard output": Hostile(
        "import os\nfor _ in range(100): os.write(1, b'x' * 2**20)\nreturn 2 * x", double=3
    ),
    "fills the disk": Hostile(
        """
        try:
            for number in range(99):
                with open(f"{number}", "wb") as file:
                    for _ in range(31): file.write(bytes(2**20))
        except OSError:
            return 2 * x
        """,
        double=3,
    ),
    "one large file": Hostile(
        "try:\n    open('a', 'wb').write(bytes(40 * 2**20))\nexcept OSError:\n    return 2 * x", double=3
    ),
    "leaves files that nobody may touch": Hostile(
        """
        import os, tempfile
        if not os.path.exists("/scratch/mine"):
            inner = os.path.join(tempfile.mkdtemp(), "a", "b")
            os.makedirs(inner)
            os.symlink("/", os.path.join(inner, "root"))
            open("/scratch/mine", "w").write("x")
            for depth in range(3): os.chmod("/".join(inner.split("/")[: 6 - depth]), 0)
        return 2 * x
        """,
        double=3,
    ),
    "opens sockets": Hostile(
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 22), 1)\nexcept OSError:\n    return 2 * x",
        double=3,
    ),
    "patches numpy": Hostile(
        "return 0 * x",
        double=1,  # an empty array stays empty
        top="import numpy as np\nfor f in ('allclose', 'isclose', 'asarray'): setattr(np, f, lambda *a, **k: True)\n",
    ),
    "patches builtins": Hostile(
        "return 0 * x",
        top="import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.AssertionError = ValueError\n",
        tally=0,
    ),
    "patches the engine": Hostile(
        "return 0 * x",
        top="""
        import sys
        from m6rec_mini.course import local, namespace, wire
        local.Local._do = lambda self, call, args, kwargs: args[0]
        for module in ("m6rec_mini.course.grader", "m6rec_mini.course.expect", "pytest", "hypothesis"):
            sys.modules[module] = None
        """,
        double=1,
        tally=0,
    ),
    "strips asserts": Hostile(
        "return 0 * x",
        top="""
        import ast, sys
        class Loader:
            def find_spec(self, *a, **k): return None
        sys.meta_path.insert(0, Loader())
        compile = lambda *a, **k: ast.parse("")
        """,
        double=1,
    ),
    "equals everything": Hostile(
        """
        class Any(np.ndarray):
            __eq__ = __le__ = __lt__ = lambda *a: True
            __array_ufunc__ = lambda *a, **k: True
        return np.zeros(7).view(Any)
        """
    ),
    "equals everything, no array": Hostile(
        "return type('All', (), {'__eq__': lambda *a: True, 'shape': (1,), '__array__': lambda *a, **k: 2 * x})()"
    ),
    "forges on every file": Hostile(
        """
        import os, struct
        tree = b'["dict", ["value", true], ["changed", ["list"]], ["printed", ""]]'
        for fd in range(100):
            try: os.write(fd, struct.pack("<II", len(tree), 0) + tree)
            except OSError: pass
        """
    ),
    "a thread that forges": Hostile(
        "return 2 * x",
        top="""
        import os, threading
        def write():
            while True:
                try: os.write(3, b"x" * 64)
                except OSError: pass
        threading.Thread(target=write, daemon=True).start()
        """,
        tally=0,
    ),
    "closes every file": Hostile("import os\nos.closerange(0, 99)", says="ended"),
    "huge reply": Hostile("return np.zeros(12_000_000)"),
    "many small values": Hostile("return [0.5] * 1_800_000"),
    "deep reply": Hostile("found = []\nfor _ in range(10**4): found = [found]\nreturn found", says="deep"),
    "unequal each time": Hostile("return np.random.default_rng().random(len(x))", double=1),  # of nothing, nothing
    "atexit and finalisers": Hostile(
        top="""
        import atexit
        @atexit.register
        def forever():
            while True: pass
        class Never:
            def __del__(self):
                while True: pass
        kept = Never()
        """,
        double=3,
    ),
    "changes the clock": Hostile(
        "while True: pass",
        top="import time\nfor f in ('time', 'monotonic', 'perf_counter'): setattr(time, f, lambda: 0.0)\n",
        says="still running",
        endless=("double",),
    ),
    "words for a terminal": Hostile("raise ValueError('\\x1b[2J\\ud800<script>' + 'x' * 10**6)", says="<script>xxx"),
    "source too deep for a parser": Hostile(top="a = " + "(" * 5000 + ")" * 5000 + "\n# %%\n", double=3),
    "a million minus signs": Hostile(top="a = " + "-" * 10**6 + "1\n# %%\n", double=3),
    "hides a library": Hostile("return getattr(__import__('numpy'), 'multi' + 'ply')(2, x)", says="can run anything"),
    "calls the reference": Hostile("import m6rec_mini.evaluation\nreturn 2 * x", says="the reference itself"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_gets_what_it_earned_and_harms_nobody(name: str, servers: Servers, tmp_path: Path) -> None:
    case = HOSTILE[name]
    found = graded(case.source(), tmp_path, servers, chapter=with_little_time(*case.endless))
    said = " ".join(outcome.message for outcome in found.reports[0].outcomes)
    assert earned(found) == {"double": case.double, "Tally": case.tally}, said
    assert case.says in said
    assert len(found.to_json().encode("utf-8")) < 20_000
    assert earned(graded(GOOD, tmp_path, servers)) == ALL, "the next one was harmed"
    process = servers.server()._process
    assert process is not None
    assert len(below(process.pid)) == 1, "something still runs beside the server"


def test_what_lies_beside_cannot_be_reached(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gradebook.db", "other.ipynb", "solution.py"):
        (tmp_path / name).write_text("secret")
    monkeypatch.setenv("SECRET", "secret")
    places = [str(path) for path in (*tmp_path.iterdir(), Path(__file__), grading.__file__, "/etc/passwd")]
    thief = f"""
        import os
        found = [os.environ.get("SECRET")]
        for place in {places}:
            for mode in ("rb", "ab"):
                try: found.append(open(place, mode).name)
                except OSError: pass
        for process in os.listdir("/proc"):
            try: found.append("secret" in open(f"/proc/{{process}}/environ").read() or None)
            except OSError: pass
        """
    source = dedent(thief) + GOOD.replace("return 2 * x", "return x if any(found) else 2 * x")
    assert earned(graded(source, tmp_path, servers)) == ALL
    assert (tmp_path / "gradebook.db").read_text() == "secret"
