"""The grader's view of an answer: `answer.attention_weights(query, key)`, wherever the code runs.

A `Link` carries a request to the learner's code and brings back the reply: `Here` within this process
(notebook), `remote.Remote` from another (grades). Graders never see which.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from m6rec_mini.course.errors import Crashed, Gone, Missing, OutOfTime, Unanswered
from m6rec_mini.course.local import MOST_OUTPUT, Call, Local
from m6rec_mini.course.wire import Handle, Packed, WireError, pack, unpack

NO_RESULT = "Your code sent something that is no result"


@runtime_checkable
class Link(Protocol):
    """How a request reaches the learner's code."""

    isolation: str  # "none", "process", "sandbox"

    def request(self, packed: Packed, deadline: float) -> Packed:
        """The reply. Raises OutOfTime after `deadline` (of time.monotonic), Gone if nobody is left to answer."""
        ...


class Here:
    """The learner's code in this process, interrupted when its time is over."""

    isolation = "none"

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.local = Local(namespace)

    def request(self, packed: Packed, deadline: float) -> Packed:
        """The reply, at once."""
        with interrupted_at(deadline):
            return self.local.request(packed)


@dataclass(frozen=True, eq=False)
class Called:
    """A call that was made, for telling the learner about it."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    value: Any = None
    returned: bool = False


class Answer:
    """The names that a learner defined. `answer.f(x)` calls, `answer.changed` says which arguments it altered.

    Raises, from a call: Missing, Unanswered, Crashed, Gone; OutOfTime when `deadline` has passed.
    """

    def __init__(self, link: Link, deadline: float | None = None) -> None:
        self._link, self._deadline = link, time.monotonic() + 3600 if deadline is None else deadline
        self.calls: Called | None = None  # the last one
        self.failure: Any = None  # the last law that was seen to be broken
        self.changed: tuple[str, ...] = ()
        self.printed = ""
        self._lost = ""  # why nobody answers any more

    def __getattr__(self, name: str) -> Callable_:
        if name.startswith("_"):
            raise AttributeError(name)
        return Callable_(self, name, None)

    def new_deadline(self, deadline: float) -> None:
        """From now on calls may last until then, on the clock of time.monotonic."""
        self._deadline = deadline

    @property
    def isolation(self) -> str:
        """How well the code is shut in."""
        return self._link.isolation

    def _request(self, call: Call, shown: str) -> Any:
        self.calls = Called(shown, call.args, call.kwargs)
        reply = {} if self._lost else self._reply(pack(call.plain(), _send_object))
        if self._lost:  # one place for the first time and the next, or Hypothesis takes them for two failures
            raise Gone(self._lost)
        self.printed = clean(reply.get("printed") or "", MOST_OUTPUT + 1) or self.printed
        if "error" in reply:
            raise _as_error(reply["error"], shown)
        self.changed = tuple(clean(name) for name in reply["changed"][:100])
        self.calls = Called(shown, call.args, call.kwargs, reply["value"], True)
        return reply["value"]

    def _reply(self, request: Packed) -> dict[str, Any]:
        """The reply, if it has the form of one; judged code may have written it by itself, and then it is the last."""
        try:
            reply = unpack(self._link.request(request, self._deadline), self._object)
        except (Gone, WireError) as error:
            self._lost = str(error) if isinstance(error, Gone) else f"{NO_RESULT}: {clean(error)}."
            return {}
        told = reply if isinstance(reply, dict) else {}
        if not isinstance(told.get("error"), dict) and not ("value" in told and isinstance(told.get("changed"), list)):
            self._lost = f"{NO_RESULT}."
        return told

    def _object(self, handle: Handle) -> Object:
        return Object(self, Handle(handle.number, clean(handle.kind, 200)))


class Callable_:  # noqa: N801
    """Something of the learner's that can be called, by its path."""

    def __init__(self, answer: Answer, path: str, handle: int | None, shown: str = "") -> None:
        self._answer, self._path, self._handle, self._shown = answer, path, handle, shown or path

    def __getattr__(self, name: str) -> Callable_:
        if name.startswith("_"):
            raise AttributeError(name)
        return Callable_(self._answer, f"{self._path}.{name}", self._handle, f"{self._shown}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the learner's code returns."""
        return self._answer._request(Call(self._path, args, kwargs, self._handle), self._shown)

    def value(self) -> Any:
        """What stands under this name, as it is: a constant, an attribute."""
        return self._answer._request(Call(self._path, handle=self._handle, kind="get"), self._shown)

    def vjp(self, *args: Any, cotangent: Any, wrt: Sequence[int] = (0,), **kwargs: Any) -> tuple[Any, list[Any]]:
        """The output for torch tensors, and the gradients of sum(output * cotangent) by the arguments at `wrt`."""
        call = Call(self._path, args, kwargs, self._handle, "vjp", cotangent, wrt)
        reply = self._answer._request(call, self._shown)
        return reply["output"], reply["gradients"]


class Object:
    """An object of the learner's that stays where it is; it can be called, and its methods too."""

    def __init__(self, answer: Answer, handle: Handle) -> None:
        self._answer, self._handle = answer, handle

    def __getattr__(self, name: str) -> Callable_:
        if name.startswith("_"):
            raise AttributeError(name)
        return Callable_(self._answer, name, self._handle.number, f"{self._handle.kind}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the object returns when it is called."""
        return Callable_(self._answer, "", self._handle.number, self._handle.kind)(*args, **kwargs)

    def vjp(self, *args: Any, cotangent: Any, wrt: Sequence[int] = (0,), **kwargs: Any) -> tuple[Any, list[Any]]:
        """As of a function; see there."""
        called = Callable_(self._answer, "", self._handle.number, self._handle.kind)
        return called.vjp(*args, cotangent=cotangent, wrt=wrt, **kwargs)

    def __repr__(self) -> str:
        return str(self._handle)


def _send_object(value: Any) -> Handle:
    if isinstance(value, Object):
        return value._handle
    raise TypeError(f"a grader sent an object of type {type(value).__name__}; send numbers, text or arrays")


def clean(text: Any, most: int = 500) -> str:
    """Words from judged code, fit for any page or terminal: not too long, no broken letters, no control codes."""
    short = str(text)[:most].encode("utf-8", "replace").decode()
    return "".join(letter for letter in short if letter.isprintable() or letter in "\n\t\r ")


def _as_error(error: Mapping[str, Any], shown: str) -> Exception:
    """The learner's error as one of ours."""
    kind, said, line = (clean(error.get(name) or "") for name in ("type", "message", "line"))
    if kind == "missing":
        why = f" ({line})" if line else ""
        return Missing(f"There is no `{said}` here{why}. Define it under exactly this name, run its cell, check again.")
    if kind == "NotImplementedError":
        return Unanswered(f"`{shown}` is not written yet: it still raises NotImplementedError.")
    where = f" It happened at: {line}" if line else ""
    return Crashed(f"`{shown}` raised {kind}: {said or 'without a message'}.{where}", kind, said)


# ---- a deadline within this process ----------------------------------------------------------


@contextmanager
def interrupted_at(deadline: float) -> Iterator[None]:
    """Raise OutOfTime in this thread when the deadline comes, again and again until the block is left."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise OutOfTime
    in_main = threading.current_thread() is threading.main_thread()
    with _by_signal(left) if in_main and hasattr(signal, "setitimer") else _by_thread(left):
        yield


@contextmanager
def _by_signal(left: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, left, 0.2)  # again, for code that catches everything
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _by_thread(left: float) -> Iterator[None]:
    """Where there is no alarm; it reaches Python code only, not a sleep or a loop within a library."""
    thread, done = threading.get_ident(), threading.Event()

    def ring() -> None:
        wait = left
        while not done.wait(wait):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))
            wait = 0.2

    watch = threading.Thread(target=ring, daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()
