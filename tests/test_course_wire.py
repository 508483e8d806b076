"""Values come through the wire as they were; what is no plain value does not come through."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from m6rec_mini.course import wire
from m6rec_mini.course.wire import Handle, Packed, WireError, pack, receive, send, unpack

numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
arrays = hnp.arrays(
    st.sampled_from(["float64", "float32", "int64", "bool", "uint8", "<U3"]), hnp.array_shapes(min_dims=0, min_side=0)
)
values = st.recursive(
    numbers | arrays,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type and value; NaN is itself."""
    if isinstance(a, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, float):
        return type(a) is type(b) and (a == b or (math.isnan(a) and math.isnan(b)))
    return type(a) is type(b) and a == b


@given(values)
def test_what_is_packed_comes_out_the_same(value: Any) -> None:
    assert same(unpack(pack(value)), value)


@given(values)
def test_a_message_survives_a_stream(value: Any) -> None:
    stream = io.BytesIO()
    send(stream, pack(value))
    send(stream, pack("next"))
    stream.seek(0)
    assert same(unpack(receive(stream)), value)
    assert unpack(receive(stream)) == "next"
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_keep_type_shape_and_whether_they_want_gradients(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(6)[: math.prod(shape)].reshape(shape).to(dtype)
    back = unpack(pack(tensor))
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert torch.equal(back, tensor)
    assert unpack(pack(torch.ones(2, requires_grad=True))).requires_grad


def test_generators_go_on_where_they_were() -> None:
    rng = np.random.default_rng(3)
    rng.random(5)
    assert (unpack(pack(rng)).random(4) == rng.random(4)).all()


def test_arrays_that_come_out_are_new_and_writable() -> None:
    array = np.zeros(3)
    out = unpack(pack(array))
    out[0] = 1
    assert array[0] == 0


def test_subclasses_arrive_as_what_they_are_made_of() -> None:
    class Sly(float):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = float.__hash__

    pair = namedtuple("pair", "a b")
    out = unpack(pack([Sly(2.0), pair(1, 2), OrderedDict(x=1), np.matrix([[1.0]])]))
    assert [type(x) for x in out] == [float, tuple, dict, np.ndarray]
    assert out[0] != 3.0


def test_other_objects_become_handles_and_only_with_a_keeper() -> None:
    class Anything:
        pass

    kept: list[object] = []

    def keep(value: object) -> Handle:
        kept.append(value)
        return Handle(len(kept) - 1, type(value).__name__)

    out = unpack(pack([Anything(), np.array([Anything()], object)], keep))
    assert out == [Handle(0, "Anything"), Handle(1, "ndarray")]
    assert str(out[0]) == "an object of type Anything"
    with pytest.raises(WireError, match="cannot cross"):
        pack(Anything())


def test_a_list_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(WireError, match="deep"):
        pack(loop)


def test_too_much_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    send(stream, pack(np.zeros(1000)))
    monkeypatch.setattr(wire, "LARGEST", 1000)
    with pytest.raises(WireError, match="more than"):
        pack(np.zeros(1000))
    stream.seek(0)
    with pytest.raises(WireError, match="too large"):
        receive(stream)


@pytest.mark.parametrize(
    "tree",
    [
        b"", b"{", b'{"a": 1}', b"[]", b"[1]", b'["nothing"]', b'["array", "O", [1], 0]', b'["array", "<f8", [9], 0]',
        b'["array", "<f8", [1], 7]', b'["bytes", "x"]', b'["tensor", "nn", [1], 0, false]', b'["dict", 1]',
        b'["__class__"]', b'["generator", ["dict"]]', b'["handle", "x", 1]', b'["float", "x"]', b"\xff",
        b'["set", ["list"]]', b"[" * 5000 + b"]" * 5000,
    ],
)  # fmt: skip
def test_rubbish_gives_one_kind_of_error(tree: bytes) -> None:
    with pytest.raises(WireError):
        unpack(Packed(tree, (b"12345678",)))


@given(st.binary(max_size=40))
def test_no_bytes_on_the_stream_do_anything_but_raise(data: bytes) -> None:
    with pytest.raises((WireError, EOFError)):
        unpack(receive(io.BytesIO(data)))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=4), max_leaves=10))
def test_no_tree_does_anything_but_raise_or_give_a_value(tree: Any) -> None:
    with contextlib.suppress(WireError):
        unpack(Packed(json.dumps(tree).encode(), (b"1234",)))
