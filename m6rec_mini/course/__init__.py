"""The machinery of the course: exercises, honest graders, and proof that they are sound.

from m6rec_mini.course import check, demo
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m6rec_mini.course.checking import check
    from m6rec_mini.course.unsolved import demo

__all__ = ["check", "demo"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line should not wait for Hypothesis."""
    if name == "check":
        from m6rec_mini.course.checking import check as found

        return found
    if name == "demo":
        from m6rec_mini.course.unsolved import demo as waiting

        return waiting
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
