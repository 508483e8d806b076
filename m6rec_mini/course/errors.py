"""What can go wrong with an answer, in words for the person who wrote it."""

from __future__ import annotations


class AnswerError(Exception):
    """The learner's code could not be used; the message says why and what to do."""

    status = "failed"


class Missing(AnswerError):
    """The name that a question asks for is not there, or is no function."""

    status = "missing"


class Unanswered(AnswerError):
    """The question has not been answered yet."""

    status = "unanswered"


class Crashed(AnswerError):
    """The learner's code raised; `kind` is the name of the exception, `said` its own message."""

    def __init__(self, message: str, kind: str = "", said: str = "") -> None:
        super().__init__(message)
        self.kind, self.said = kind, said


class Gone(AnswerError):
    """The process with the learner's code has ended: it was killed, or it left."""


class OutOfTime(BaseException):
    """The deadline is over. Not an Exception, so that neither learner's code nor Hypothesis catches it by accident."""


class Unsound(Exception):
    """A grader or an exercise is at fault, not the learner."""
