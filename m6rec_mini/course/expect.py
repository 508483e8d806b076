"""What a grader asks of a value. Each of these either says nothing or says what is wrong.

They look at behaviour only: an array may come as any kind of array or list, a number as any kind of
number. Tolerances are by reasoning: a float32 has 24 bits, a sum of n of them loses about sqrt(n)
roundings, and no right answer may fail for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from m6rec_mini.course.show import is_tensor, kind, short

CLOSE = {"float64": (1e-7, 1e-9), "float32": (1e-5, 1e-6), "float16": (5e-3, 1e-3), "bfloat16": (3e-2, 1e-2)}


class Broken(AssertionError):
    """A law does not hold; `got` and `expected` are for the learner's eyes."""

    def __init__(self, message: str, got: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.got, self.expected = got, expected


def require(condition: object, message: str, got: Any = None, expected: Any = None) -> None:
    """Raise Broken with this message unless the condition holds."""
    if not bool(condition):
        raise Broken(message, "" if got is None else short(got), "" if expected is None else short(expected))


def number(value: Any, what: str = "the result") -> float:
    """A single finite-or-not number: of Python, NumPy, or an array or tensor of one element without axes."""
    if isinstance(value, bool) or (
        not isinstance(value, int | float | np.generic | np.ndarray) and not is_tensor(value)
    ):
        raise Broken(f"{what} should be one number; it is {described(value)}", short(value))
    plain = numpy_of(value)
    if plain.ndim != 0 or plain.dtype.kind not in "fiu":
        raise Broken(f"{what} should be one number; it is {described(value)}", short(value))
    return float(plain)


def array(value: Any, shape: tuple[int, ...] | None = None, dtype: Any = None, what: str = "the result") -> np.ndarray:
    """The value as a NumPy array of this shape and type; where no type is asked for, lists of numbers will do."""
    if isinstance(value, list | tuple) and dtype is None and _is_numbers(value):
        value = np.asarray(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and dtype is None and not shape:
        value = np.asarray(value)
    if not isinstance(value, np.ndarray | np.generic) and not is_tensor(value):
        wanted = "an array" if shape is None else f"an array of shape {shape}"
        raise Broken(f"{what} should be {wanted}; it is {described(value)}", short(value))
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise Broken(f"{what} has shape {tuple(value.shape)}; expected {tuple(shape)}", short(value))
    if dtype is not None and str(value.dtype) != str(dtype if is_tensor(value) else np.dtype(dtype)):
        raise Broken(f"{what} has type {value.dtype}; expected {dtype}, as the input has", short(value))
    return numpy_of(value)


def close(got: Any, want: Any, what: str = "the result", *, show: bool = True, like: Any = None) -> np.ndarray:
    """Equal up to rounding, NaN and infinities in the same places, same shape; returns the array.

    The tolerance is that of the coarsest type at work: of `got`, of `want` and of `like`. With `show=False`
    the message keeps the expected value to itself.
    """
    wanted = numpy_of(want)
    given = array(got, wanted.shape, what=what) if wanted.ndim else np.asarray(number(got, what))
    if given.dtype.kind not in "biufc":
        raise Broken(f"{what} should hold numbers; it is {described(got)}", short(got))
    kinds = [str(getattr(x, "dtype", "float64")).removeprefix("torch.") for x in (got, want, like)]
    relative, absolute = max(CLOSE[k] for k in [*kinds, "float64"] if k in CLOSE)
    wide, target = given.astype(np.float64), wanted.astype(np.float64)
    scale = np.abs(target[np.isfinite(target)]).max(initial=0.0)
    good = np.isclose(wide, target, rtol=relative, atol=absolute * max(scale, 1.0), equal_nan=True)
    if not good.all():
        where = tuple(int(n) for n in np.argwhere(~good)[0])
        place = f"{what} at {list(where)}" if where else what
        text = f"{place} is {wide[where]:.6g}" + (f"; expected {target[where]:.6g}" if show else ", which is wrong")
        raise Broken(text, short(got), short(want) if show else "")
    return given


def same(got: Any, want: Any, what: str = "the result", *, show: bool = True) -> None:
    """Exactly equal: integers, text, booleans, and containers of them. Arrays compare by value and shape."""
    if isinstance(want, np.ndarray) or is_tensor(want):
        given, wanted = array(got, tuple(want.shape), what=what), numpy_of(want)
        equal = bool((given == wanted).all())
    else:
        given, wanted = plain(got), plain(want)
        equal = type(given) is type(wanted) and given == wanted
    if not equal:
        text = f"{what} is not what it should be" + (f": {short(got)} instead of {short(want)}" if show else "")
        raise Broken(text, short(got), short(want) if show else "")


def zero(value: Any, where: Any = None, what: str = "the result") -> None:
    """Exactly zero, everywhere or `where` a mask is true."""
    given = array(value, what=what)
    part = given if where is None else given[np.broadcast_to(numpy_of(where), given.shape)]
    if part.size and not (part == 0).all():
        worst = part[np.argmax(np.abs(np.nan_to_num(part, nan=np.inf)))]
        raise Broken(f"{what} should be exactly 0; there is a {worst:.6g}", short(value))


def finite(value: Any, what: str = "the result") -> np.ndarray:
    """No NaN, no infinity."""
    given = array(value, what=what)
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        bad = given[~np.isfinite(given)][0]
        raise Broken(f"{what} holds {bad}", short(value))
    return given


def unchanged(answer: Any) -> None:
    """The last call left all its arguments as they were."""
    if answer.changed:
        which = ", ".join(f"number {int(n) + 1}" if n.isdigit() else f"`{n}`" for n in answer.changed)
        raise Broken(f"`{answer.calls.name}` changed its argument ({which}). Callers still need it: work on a copy.")


def refuses(call: Any, *args: Any, error: str = "ValueError", what: str = "this input", **kwargs: Any) -> str:
    """The call raises this kind of exception, with a message; returns the message."""
    from m6rec_mini.course.errors import Crashed

    try:
        value = call(*args, **kwargs)
    except Crashed as crashed:
        if crashed.kind != error:
            raise Broken(f"{what} should raise {error}; it raised {crashed.kind}: {crashed.said}") from None
        if not crashed.said.strip():
            raise Broken(
                f"{what} raises {error} without a message. Say what was wrong and what was expected."
            ) from None
        return crashed.said
    raise Broken(f"{what} should raise {error}; it returned {kind(value)}", short(value))


def described(value: Any) -> str:
    """What something is; for None, the usual reason."""
    return "None: is a `return` missing?" if value is None else kind(value)


def numpy_of(value: Any) -> np.ndarray:
    """A NumPy array of the same numbers."""
    if is_tensor(value):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's, arrays as lists, whole floats left alone."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(plain(x) for x in value)
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    return value


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_numbers(x) for x in value)
    return isinstance(value, int | float | np.generic)
