"""How values cross between the grader and the code it judges: numbers, text, containers, arrays, handles.

The one idea: nothing that crosses can run. A value becomes a tree of plain JSON and a list of raw
frames with the bytes of arrays; whatever else it is (a module, an optimiser, an object whose `==`
always says yes) stays where it is, and only a handle to it crosses. No pickle, ever.

Subclasses arrive as what they are made of: a named tuple as a tuple, a NumPy matrix as an array.
So no method that the judged code wrote is at work on the grader's side.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

LARGEST = 256 * 2**20  # bytes of one message; more is an accident, or an attack
DEEPEST = 50  # containers within containers
HEAD = struct.Struct("<II")  # bytes of the tree, number of frames
SIZE = struct.Struct("<Q")


@runtime_checkable
class Reader(Protocol):
    """Bytes come from here."""

    def read(self, size: int, /) -> bytes | None:
        """At most so many; none at the end."""


@runtime_checkable
class Writer(Protocol):
    """Bytes go here."""

    def write(self, data: bytes, /) -> int | None:
        """Take them all."""

    def flush(self) -> None:
        """Send what was kept back."""


class WireError(ValueError):
    """What arrived is no message, or what should go cannot."""


@dataclass(frozen=True)
class Handle:
    """A name for an object that stays on the other side."""

    number: int
    kind: str  # the name of its type, for people

    def __str__(self) -> str:
        return f"an object of type {self.kind}"


@dataclass(frozen=True)
class Packed:
    """A value ready to be sent."""

    tree: bytes
    frames: tuple[bytes, ...]


def pack(value: Any, keep: Callable[[Any], Handle] | None = None) -> Packed:
    """Make a value ready; `keep` is given each object that cannot cross, and returns its handle.

    Raises WireError without `keep`, for containers that are too deep or hold themselves, and for too many bytes.
    """
    packer = _Packer(keep)
    tree = json.dumps(packer.node(value, 0), allow_nan=False).encode()
    if len(tree) + sum(map(len, packer.frames)) > LARGEST:
        raise WireError(f"a value of more than {LARGEST >> 20} MiB; give back less")
    return Packed(tree, tuple(packer.frames))


def unpack(packed: Packed, find: Callable[[Handle], Any] | None = None) -> Any:
    """The value again, all its arrays new and writable; `find` turns a handle into what it stands for.

    Raises WireError for anything that `pack` cannot have made.
    """
    try:
        return _Unpacker(packed.frames, find).value(json.loads(packed.tree))
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise WireError(f"not a message ({type(error).__name__}: {error})") from error


def send(stream: Writer, packed: Packed) -> None:
    """Write one message and flush it."""
    stream.write(HEAD.pack(len(packed.tree), len(packed.frames)))
    stream.write(packed.tree)
    for frame in packed.frames:
        stream.write(SIZE.pack(len(frame)))
        stream.write(frame)
    stream.flush()


def receive(stream: Reader) -> Packed:
    """Read one message. Raises EOFError where the stream ends, WireError if it is none or too large."""
    tree_size, count = HEAD.unpack(_exactly(stream, HEAD.size))
    left = LARGEST - tree_size
    if left < 0 or count > 100_000:
        raise WireError("a message that is too large")
    tree, frames = _exactly(stream, tree_size), []
    for _ in range(count):
        (size,) = SIZE.unpack(_exactly(stream, SIZE.size))
        left -= size
        if left < 0:
            raise WireError("a message that is too large")
        frames.append(_exactly(stream, size))
    return Packed(tree, tuple(frames))


def _exactly(stream: Reader, size: int) -> bytes:
    parts, missing = [], size
    while missing:
        part = stream.read(missing)
        if not part:
            raise EOFError("the other side has gone")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _Packer:
    def __init__(self, keep: Callable[[Any], Handle] | None) -> None:
        self.keep, self.frames = keep, list[bytes]()

    def node(self, value: Any, depth: int) -> Any:
        """The JSON of one value: itself where JSON has it, else a list that starts with a tag."""
        if depth > DEEPEST:
            raise WireError(f"containers more than {DEEPEST} deep, or one that holds itself")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, np.generic | np.ndarray):
            return self.array(value)
        for kind, write in _PLAIN:
            if isinstance(value, kind):
                return write(value)
        if isinstance(value, bytes | bytearray):
            return ["bytes", self.frame(bytes(value))]
        if isinstance(value, list | tuple):
            cells = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
            return ["list" if isinstance(value, list) else "tuple", *(self.node(x, depth + 1) for x in cells)]
        if isinstance(value, set | frozenset):
            return ["set", *(self.node(x, depth + 1) for x in sorted(value, key=repr))]
        if isinstance(value, dict):
            return ["dict", *([self.node(k, depth + 1), self.node(v, depth + 1)] for k, v in dict.items(value))]
        if isinstance(value, np.random.Generator):
            return ["generator", self.node(value.bit_generator.state, depth + 1)]
        if isinstance(value, Handle):
            return ["handle", value.number, value.kind]
        return self.tensor(value) or self.handle(value)

    def array(self, value: Any) -> Any:
        plain = np.asarray(value) if isinstance(value, np.generic) else np.ndarray.view(value, np.ndarray)
        if plain.dtype.hasobject or plain.dtype.names is not None:
            return self.handle(value)
        kind = "scalar" if isinstance(value, np.generic) else "array"
        return [kind, plain.dtype.str, list(plain.shape), self.frame(np.ascontiguousarray(plain).tobytes())]

    def tensor(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # without torch there are no tensors
        if torch is None or not isinstance(value, torch.Tensor):
            return None
        plain, dtype = value.detach().cpu().contiguous(), str(value.dtype).removeprefix("torch.")
        if plain.is_sparse or plain.is_quantized:
            return self.handle(value)
        data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return ["tensor", dtype, list(plain.shape), self.frame(data), bool(value.requires_grad)]

    def handle(self, value: Any) -> Any:
        if self.keep is None:
            raise WireError(f"an object of type {type(value).__name__} cannot cross; use numbers, text or arrays")
        handle = self.keep(value)
        return ["handle", handle.number, handle.kind]

    def frame(self, data: bytes) -> int:
        self.frames.append(data)
        return len(self.frames) - 1


def _float(value: float) -> Any:
    number = float.__float__(value)
    return number if math.isfinite(number) else ["float", repr(number)]


_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool),
    (int, int.__int__),
    (float, _float),
    (str, lambda value: str.__str__(value).encode("utf-8", "replace").decode()),
    (complex, lambda value: ["complex", [_float(value.real), _float(value.imag)]]),
)


class _Unpacker:
    def __init__(self, frames: tuple[bytes, ...], find: Callable[[Handle], Any] | None) -> None:
        self.frames, self.find = frames, find

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise WireError("not a message: a bare object")
            return node
        tag, *rest = node
        return getattr(self, f"read_{tag}")(*rest)

    def read_float(self, text: str) -> float:
        return float(text)

    def read_complex(self, parts: list[Any]) -> complex:
        real, imaginary = (float(self.value(part)) for part in parts)
        return complex(real, imaginary)

    def read_bytes(self, frame: int) -> bytes:
        return self.frames[frame]

    def read_list(self, *nodes: Any) -> list[Any]:
        return [self.value(node) for node in nodes]

    def read_tuple(self, *nodes: Any) -> tuple[Any, ...]:
        return tuple(self.value(node) for node in nodes)

    def read_set(self, *nodes: Any) -> set[Any]:
        return {self.value(node) for node in nodes}

    def read_dict(self, *pairs: Any) -> dict[Any, Any]:
        return {self.value(key): self.value(value) for key, value in pairs}

    def read_generator(self, node: Any) -> np.random.Generator:
        state = self.value(node)
        kinds = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM, "MT19937": np.random.MT19937}
        bits: Any = kinds[state["bit_generator"]](0)
        bits.state = state
        return np.random.Generator(bits)

    def read_scalar(self, dtype: str, shape: list[int], frame: int) -> Any:
        return self.read_array(dtype, shape, frame)[()]

    def read_array(self, dtype: str, shape: list[int], frame: int) -> Any:
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise WireError("an array of objects")
        return np.frombuffer(self.frames[frame], kind).reshape(shape).copy()

    def read_tensor(self, dtype: str, shape: list[int], frame: int, requires_grad: bool) -> Any:
        import torch

        kind = getattr(torch, dtype)
        if not isinstance(kind, torch.dtype):
            raise WireError(f"no type of tensor: {dtype}")
        data = bytearray(self.frames[frame])
        flat = torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)
        tensor = flat.reshape(shape)
        return tensor.requires_grad_() if requires_grad else tensor

    def read_handle(self, number: int, kind: str) -> Any:
        handle = Handle(int(number), str(kind)[:200])
        return handle if self.find is None else self.find(handle)
