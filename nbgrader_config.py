"""nbgrader's settings for this course: `nbgrader generate_assignment 07_multimodal_fusion` in this folder works.

The answers' source and the learners' notebooks are the course's own folders. Submissions are graded by
the course's engine, in a sandbox, in place of nbgrader's way of running them beside its own database.
"""

c = get_config()  # type: ignore[name-defined]

c.CourseDirectory.course_id = "m6rec-mini"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
# Without "*.py" nbgrader would copy the answers' source beside the learner's notebook.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "*.py"]
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.Autograde.autograde_preprocessors = [
    "m6rec_mini.course.nbgrader_engine.Engine",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
