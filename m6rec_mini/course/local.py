"""The side on which the learner's code lives: names, objects, and calls into them.

`Local` answers requests from the grader. In a notebook it sits in the same process; when a grade
is at stake it sits in a process of its own, and `wire` is between. Either way a value passes through
`wire`, so the same code gets the same points in both places.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m6rec_mini.course.errors import OutOfTime
from m6rec_mini.course.wire import Handle, Packed, WireError, pack, unpack

MOST_OUTPUT = 4_000  # characters of what learner's code printed that are kept
MOST_OBJECTS = 100_000
BROKEN = "__cells_that_failed__"  # under this name a namespace keeps what could not be run, in words


@dataclass(frozen=True)
class Call:
    """One request: call `path` (a name, or attributes after it) or, if `handle` is given, that object's."""

    path: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    handle: int | None = None
    kind: str = "call"  # "call", "get" an attribute's value, or "vjp"
    cotangent: Any = None  # of "vjp": the weight of each number of the output
    wrt: Sequence[int] = ()  # of "vjp": the positions of the arguments to differentiate by

    def plain(self) -> dict[str, Any]:
        """As containers that `wire` can pack."""
        return {**self.__dict__, "args": list(self.args), "kwargs": dict(self.kwargs), "wrt": list(self.wrt)}


class NotThereError(LookupError):
    """The name that was asked for is not in the namespace."""


class Local:
    """A namespace of learner's code, and the objects that came out of it."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.objects: dict[int, Any] = {}

    def request(self, packed: Packed) -> Packed:
        """Do what a packed `Call` asks; the reply is a dict with "value", or with "error" and its words.

        It also holds "changed", the arguments that the call altered, and "printed".
        """
        call = Call(**unpack(packed))
        printed = Capped()
        reply: dict[str, Any]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                args = unpack(pack(list(call.args)), self._find)
                kwargs = unpack(pack(dict(call.kwargs)), self._find)
                before = self._arguments(args, kwargs)
                value = self._do(call, args, kwargs)
                reply = {"value": value, "changed": _changed(before, self._arguments(args, kwargs))}
                answer = pack({**reply, "printed": printed.text()}, self._keep)
            except OutOfTime:
                raise
            except BaseException as error:
                answer = pack({"error": _describe(error, self.namespace), "printed": printed.text()})
        return answer

    def _do(self, call: Call, args: list[Any], kwargs: dict[str, Any]) -> Any:
        target = self._target(call)
        if call.kind == "get":
            return target
        if call.kind == "vjp":
            return _vjp(target, args, kwargs, call.cotangent, call.wrt)
        return target(*args, **kwargs)

    def _target(self, call: Call) -> Any:
        names = call.path.split(".") if call.path else []
        if call.handle is not None:
            target = self.objects[call.handle]
        else:
            first = names.pop(0)
            if first not in self.namespace:
                raise NotThereError(first)
            target = self.namespace[first]
        for name in names:
            target = getattr(target, name)
        return target

    def _keep(self, value: Any) -> Handle:
        if len(self.objects) >= MOST_OBJECTS:
            raise WireError("too many objects were given back")
        number = len(self.objects)
        self.objects[number] = value
        return Handle(number, type(value).__name__)

    def _find(self, handle: Handle) -> Any:
        return self.objects[handle.number]

    def _arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Packed | None]:
        """Each argument's bytes; None for objects, which may change."""
        named = {str(n): value for n, value in enumerate(args)} | dict(kwargs)
        return {name: _bytes(value) for name, value in named.items()}


def _bytes(value: Any) -> Packed | None:
    with contextlib.suppress(WireError):
        packed = pack(value)
        return None if b'"generator"' in packed.tree else packed
    return None


def _changed(before: Mapping[str, Packed | None], after: Mapping[str, Packed | None]) -> list[str]:
    return [name for name, packed in before.items() if packed is not None and packed != after[name]]


def _vjp(target: Any, args: list[Any], kwargs: dict[str, Any], cotangent: Any, wrt: Sequence[int]) -> dict[str, Any]:
    """The output, and the gradient of sum(output * cotangent) by the arguments at `wrt`; None where there is none."""
    import torch

    for place in wrt:
        args[place] = args[place].detach().requires_grad_()
    output = target(*args, **kwargs)
    if not isinstance(output, torch.Tensor) or not output.requires_grad:
        return {"output": output, "gradients": [None] * len(wrt)}
    gradients = torch.autograd.grad(output, [args[place] for place in wrt], cotangent, allow_unused=True)
    return {"output": output, "gradients": list(gradients)}


def _describe(error: BaseException, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The error in words, with the last line of the learner's own code that it came through."""
    if isinstance(error, NotThereError):
        failures = "; ".join(str(line) for line in namespace.get(BROKEN, ()))
        return {"type": "missing", "message": str(error.args[0]), "line": failures}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_learners(frame.filename)]
    line, number = (own[-1].line or "", own[-1].lineno) if own else ("", None)
    return {"type": type(error).__name__, "message": said_by(error), "line": line.strip(), "number": number}


def said_by(error: BaseException) -> str:
    """The message of an error, which may be the learner's own class and fail at even that."""
    try:
        return str(error)[:500]
    except Exception:
        return ""


def _is_learners(filename: str) -> bool:
    """Cells are compiled under names that are no files, such as <cell 3> or ipykernel's."""
    return filename.startswith("<") or "ipykernel" in filename or filename in CELLS


CELLS: set[str] = set()  # names under which `run_cells` compiled code


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> None:
    """Execute one cell; its lines can then be shown in messages."""
    CELLS.add(name)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)


class Capped(io.TextIOBase):
    """What was printed, as far as anybody would read it."""

    def __init__(self) -> None:
        self.parts, self.left = list[str](), MOST_OUTPUT

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Keep the beginning."""
        if self.left > 0:
            self.parts.append(text[: self.left])
            self.left -= len(text)
        return len(text)

    def text(self) -> str:
        """What was kept."""
        return "".join(self.parts) + ("…" if self.left < 0 else "")
