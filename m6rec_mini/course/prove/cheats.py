"""Answers that nobody could call honest, made for any question from its reference.

They have the right name, and often the right shape. A grader that gives them more than a sliver looks at
form and not at behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from m6rec_mini.course.answers import Answer, Here
from m6rec_mini.course.grader import Law, judge
from m6rec_mini.course.show import is_tensor
from m6rec_mini.course.wire import Packed, WireError, pack

Function = Callable[..., Any]


class EqualsEverything:
    """Says yes to every comparison, and has every attribute."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return EqualsEverything()

    def __call__(self, *_: Any, **__: Any) -> EqualsEverything:
        """Itself."""
        return self

    def __float__(self) -> float:
        return 0.0


def cheats(reference: Any, seen: dict[Packed, Any]) -> dict[str, Any]:
    """What to put in the reference's place, by name. `seen` are the visible examples and their results."""

    def remembers(*args: Any, **kwargs: Any) -> Any:
        key = _key(args, kwargs)
        return seen[key] if key in seen else filled(reference(*args, **kwargs), 0.0)

    found: dict[str, Function] = {
        "returns nothing": lambda *_, **__: None,
        "returns its first argument": lambda *args, **kwargs: args[0] if args else next(iter(kwargs.values()), None),
        "returns 0": lambda *_, **__: 0.0,
        "returns an object equal to everything": lambda *_, **__: EqualsEverything(),
    }
    if not isinstance(reference, type):
        found |= {
            "zeros of the right shape": lambda *args, **kwargs: filled(reference(*args, **kwargs), 0.0),
            "ones of the right shape": lambda *args, **kwargs: filled(reference(*args, **kwargs), 1.0),
            "remembers the examples": remembers,
        }
    return found


def visible_examples(laws: Sequence[Law], namespace: dict[str, Any], name: str) -> dict[Packed, Any]:
    """What a learner could copy: the calls of visible laws without generated inputs, with the right results."""
    seen: dict[Packed, Any] = {}
    reference = namespace[name]

    def watching(*args: Any, **kwargs: Any) -> Any:
        key = _key(args, kwargs)
        value = reference(*args, **kwargs)
        if key is not None:
            seen[key] = value
        return value

    watched = {**namespace, name: watching}
    if not isinstance(reference, type):
        for law in laws:
            if not law.hidden and not hasattr(law.test, "hypothesis"):
                judge(law, Answer(Here(watched)))
    return seen


def filled(value: Any, with_: float) -> Any:
    """The same containers and shapes, every number replaced, every word gone."""
    if isinstance(value, np.ndarray):
        return np.full_like(value, with_)
    if is_tensor(value):
        return value.detach().clone().fill_(with_)
    if isinstance(value, np.generic):
        return value.dtype.type(with_)
    if isinstance(value, bool | int | float):
        return type(value)(with_)
    if isinstance(value, str):
        return ""
    if isinstance(value, list | tuple):
        return type(value)(filled(x, with_) for x in value)
    if isinstance(value, dict):
        return {key: filled(x, with_) for key, x in value.items()}
    return value


def _key(args: Any, kwargs: Any) -> Packed | None:
    try:
        return pack([list(args), dict(kwargs)])
    except WireError:
        return None
