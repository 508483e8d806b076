"""Puts the course into the wheel: lessons, exercises and graders stand in folders of their own in a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PARTS = {"lessons": "lessons", "exercises": "exercises", "tests/graders": "graders"}


class WithCourse(build_py):
    """Copies the course beside the module that looks for it (m6rec_mini/course/chapters.py)."""

    def run(self) -> None:
        """Build as usual, then copy; an editable install reads the checkout itself."""
        super().run()
        if self.editable_mode:
            return
        for source, part in PARTS.items():
            target = Path(self.build_lib) / "m6rec_mini" / "course" / "assets" / part
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(
                ROOT / source,
                target,
                ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "conftest.py", "__init__.py"),
            )


setup(cmdclass={"build_py": WithCourse})
