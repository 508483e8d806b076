"""The machinery of the course: exercises, honest graders, and proof that they are sound."""

from m6rec_mini.course.check import check
from m6rec_mini.course.unsolved import demo

__all__ = ["check", "demo"]
