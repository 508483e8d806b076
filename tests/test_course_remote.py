"""How the process of an answer starts and ends, and what becomes of replies that are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from judged import below, cells, running, sandboxed, told

from m6rec_mini.course import remote, sandbox
from m6rec_mini.course.errors import Gone, OutOfTime
from m6rec_mini.course.remote import NoServerError, Remote, Servers
from m6rec_mini.course.sandbox import Isolation
from m6rec_mini.course.wire import HEAD, pack

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fork server needs a system that can fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with sandboxed(2**30) as found:
        yield found


@pytest.fixture(scope="module")
def trusted() -> Iterator[Servers]:
    with Servers(Isolation("process")) as found:
        yield found


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


@pytest.mark.parametrize("level", ["sandbox", "process"])
def test_a_grader_that_is_killed_leaves_no_process(level: str, servers: Servers) -> None:
    isolation = servers.isolation if level == "sandbox" else Isolation("process")
    code = f"""
        import time
        from m6rec_mini.course.answers import Answer
        from m6rec_mini.course.remote import Servers
        from m6rec_mini.course.sandbox import Isolation
        from m6rec_mini.course.wire import pack
        cells = [["def f():\\n    while True: pass", "other", "", 1]]
        with Servers({isolation!r}) as servers, servers.open(pack({{"cells": cells}})) as link:
            print(servers.server()._process.pid, flush=True)
            Answer(link, time.monotonic() + 60).f()
    """
    environment = os.environ | {"PYTHONPATH": str(sandbox.COURSE.parents[1])}
    grader = subprocess.Popen([sys.executable, "-c", dedent(code)], stdout=subprocess.PIPE, env=environment)
    assert grader.stdout is not None
    server = int(grader.stdout.readline())
    end = time.monotonic() + 30
    while len(there := [server, *below(server)]) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    grader.kill()
    grader.communicate()
    while any(running(pid) for pid in there) and time.monotonic() < end:
        time.sleep(0.01)
    assert [pid for pid in there if running(pid)] == []


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
