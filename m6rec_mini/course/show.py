"""Values as a learner would write them: short, exact where small, with shapes where not."""

from __future__ import annotations

from typing import Any

import numpy as np

LONGEST = 400  # characters of one value


def short(value: Any) -> str:
    """One line, or a few for a small matrix."""
    text = _text(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _text(value: Any) -> str:
    if isinstance(value, np.generic):
        return f"{value.dtype}({value.item()!r})"
    if isinstance(value, np.random.Generator):
        return "rng"
    if is_tensor(value):
        array = value.detach().cpu()
        return _array(array.float().numpy() if array.dtype.is_floating_point else array.numpy(), "tensor", array.dtype)
    if isinstance(value, np.ndarray):
        return _array(value, "array", value.dtype)
    if isinstance(value, float):
        return f"{value:.6g}" if value == value else "nan"
    if isinstance(value, list | tuple):
        inside = ", ".join(_text(x) for x in value[:20]) + (", …" if len(value) > 20 else "")
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{comma})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in list(value.items())[:20]) + "}"
    return repr(value)


def _array(array: np.ndarray, name: str, dtype: Any) -> str:
    if array.size > 60:
        return f"<{name} of shape {array.shape}, {dtype}>"
    body = np.array2string(array, separator=", ", precision=5, suppress_small=True, max_line_width=10_000)
    body = " ".join(body.split())
    usual = str(dtype) in ("float64", "int64", "bool", "torch.float32", "torch.int64", "torch.bool")
    return f"{name}({body}{'' if usual else f', dtype={dtype}'}{'' if array.size else f', shape={array.shape}'})"


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor, without importing torch."""
    return type(value).__module__ == "torch" and hasattr(value, "detach")


def kind(value: Any) -> str:
    """What something is, for a sentence: "an array of shape (2, 3) and type float64"."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        return f"{'a tensor' if is_tensor(value) else 'an array'} of shape {tuple(value.shape)} and type {value.dtype}"
    if value is None:
        return "None"
    if isinstance(value, bool | int | float | str | np.generic):
        return f"{short(value)}, a {type(value).__name__}"
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    return str(value) if type(value).__name__ != "Object" else repr(value)
