"""The command line: `m6rec demo | data | train | evaluate | recommend | benchmark`, and the course's commands.

One idea: a user's mistake is answered with one message that says what to do, and exit code 2; only
a mistake of this package gives a traceback. Results go to stdout, remarks and errors to stderr, so
that `m6rec recommend --format json | …` always works. The libraries that take seconds to import
are imported by the command that needs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from traceback import walk_tb
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from m6rec_mini import __version__
from m6rec_mini.course import commands

FAILED, INTERRUPTED = 2, 130
TRACEBACK = "M6REC_TRACEBACK"  # set it to see where an error came from


class Format(StrEnum):
    """How a ranked list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a user can mend into one message on stderr and an exit code."""
    try:
        yield
    except KeyboardInterrupt as stop:
        _complain(str(stop) or "stopped")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone, which typer ends quietly
        raise
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK) or not _for_people(error):
            raise
        _complain(_in_words(error))
        raise typer.Exit(FAILED) from None


def _for_people(error: ValueError | OSError) -> bool:
    """A check of this package has failed, whose message says what to do; or the system has refused something.

    A ValueError that a library raises is a mistake of ours: nobody outside can do anything about it.
    """
    *_, (frame, _) = walk_tb(error.__traceback__)
    return isinstance(error, OSError) or str(frame.f_globals["__name__"]).partition(".")[0] == "m6rec_mini"


def _in_words(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, its permissions and the free space"
    return str(error)


def _complain(message: str) -> None:
    from m6rec_mini.console import complain

    complain(message)


class Explained(TyperGroup):
    """A group of commands that explain what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with explained():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Explained,
    name="m6rec",
    help="A compact multimodal generative recommender, with honest baselines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataName = Annotated[str, typer.Option("--data", help="Name of a data set; `m6rec data` lists them.")]
DataPath = Annotated[Path | None, typer.Option("--path", help="Folder of the data set, unless it is `world`.")]
ModelDir = Annotated[Path, typer.Option("--model", help="Folder of the saved model.")]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad/--strict", help="Go on without bad records and list them, or stop at them."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …; auto takes a GPU if there is one.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")]


def _bad(skip_bad: bool) -> Any:
    return "skip" if skip_bad else "strict"


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"m6rec-mini {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """A compact multimodal generative recommender, with honest baselines."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, the model and files to try.")] = Path("out"),
    seed: Seed = 0,
    items: Annotated[int, typer.Option(min=100, help="Items of the synthetic world.")] = 2000,
    users: Annotated[int, typer.Option(min=5, help="Users of the synthetic world.")] = 1000,
) -> None:
    """Make a synthetic world, train, beat baselines, explain a list, write a report: two minutes."""
    import torch

    from m6rec_mini.datasets.world import WorldConfig
    from m6rec_mini.demo import DemoConfig, demo_recipe, run_demo

    torch.set_num_threads(min(torch.get_num_threads(), 2))  # the matrices are small: more threads only wait
    run_demo(out, Console(), DemoConfig(WorldConfig(items=items, users=users, seed=seed), demo_recipe(seed)))


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="Which data set; none lists them all.")] = None,
    path: DataPath = None,
    out: Annotated[Path | None, typer.Option(help="Also write it there, as a folder of tables and media.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Show a data set: counts, modalities, actions, some items, publisher and licence."""
    from m6rec_mini.jobs import describe_job, list_sources

    if name is None:
        list_sources(Console())
    else:
        describe_job(name, path, out, _bad(skip_bad), Console())


@app.command()
def train(
    model: ModelDir,
    data: DataName = "world",
    path: DataPath = None,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs in each stage.")] = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is saved there already.")] = False,
) -> None:
    """Train a model and save it; after a kill, the same command goes on where it was.

    With several processes: torchrun --nproc_per_node 2 -m m6rec_mini.cli train …
    """
    from m6rec_mini.demo import demo_recipe
    from m6rec_mini.jobs import check_room, device_named, limit_epochs, read_data, train_job
    from m6rec_mini.recipe import Recipe
    from m6rec_mini.training import process_group

    with process_group() as share:
        check_room(model, force)  # before the data are read, which may take a while
        where = device_named(device)
        recipe = demo_recipe(seed) if data == "world" else Recipe(seed=seed)
        catalog = read_data(data, path, _bad(skip_bad))
        train_job(catalog, limit_epochs(recipe, epochs), model, Console(quiet=share.rank > 0), where, force)


@app.command()
def evaluate(
    model: ModelDir,
    data: DataName = "world",
    path: DataPath = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Leave-one-out metrics of a saved model, with bootstrap intervals."""
    from m6rec_mini.jobs import device_named, evaluate_job, read_data
    from m6rec_mini.recommender import Recommender

    recommender = Recommender.load(model, device_named(device))
    evaluate_job(recommender, read_data(data, path, _bad(skip_bad)), Console())


@app.command()
def recommend(
    model: ModelDir,
    history: Annotated[Path | None, typer.Option(help="Events of one user; none for a new user.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="Items to rank; none ranks all the model knows.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the list.")] = 10,
    form: Annotated[Format, typer.Option("--format", help="How to print the list.")] = Format.TABLE,
    user: Annotated[str | None, typer.Option(help="Whose events, if the history has several users.")] = None,
    seen_too: Annotated[bool, typer.Option("--seen-too", help="Rank items of the history as well.")] = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Rank candidates for a user: a list with scores and reasons.

    Both files may be JSONL, CSV or Parquet. History: user, item, action (view, like, comment), timestamp, comment.
    Candidates: id, and any of text, image, audio (paths beside the file), title, domain.
    """
    from m6rec_mini.console import ranked_table, remark
    from m6rec_mini.jobs import as_csv, as_json, device_named, known_events, read_candidates, read_history
    from m6rec_mini.recommender import Recommender

    recommender, bad = Recommender.load(model, device_named(device)), _bad(skip_bad)
    items = None if candidates is None else read_candidates(candidates, recommender.reader.modalities, bad)
    events = []
    if history is not None:
        known = {*recommender.index, *(item.id for item in items or ())}
        events = known_events(read_history(history, user, bad), known, history, bad)
    places = recommender.recommend(events, items, k, seen_too=seen_too)
    if not places:
        remark("nothing is left to rank: every candidate is in the history (--seen-too ranks them all the same)")
    if form is Format.TABLE:
        Console().print(ranked_table(places, "Ranked list: log-probabilities, and what hiding a modality costs"))
    else:
        text = as_json(places) if form is Format.JSON else as_csv(places)
        typer.echo(text.encode("utf-8", "replace"))  # bytes: the same on every system


@app.command()
def benchmark(
    path: DataPath = None,
    data: DataName = "movielens",
    out: Annotated[Path, typer.Option(help="Folder for the tables and plots.")] = Path("benchmarks"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A small run, to see that it works.")] = False,
) -> None:
    """Measure the model, its ablations and all baselines on real data."""
    from m6rec_mini.benchmark import run_benchmark

    try:
        run_benchmark(path, out, seeds=seeds, quick=quick, data=data, console=Console())
    except RuntimeError as error:  # some runs failed; the tables of the others are written
        raise ValueError(str(error)) from error


# ---- the course -------------------------------------------------------------------------------

commands.register(app)


@app.command()
def grade(
    submissions: Annotated[list[Path], typer.Argument(metavar="SUBMISSION…", help="Notebooks, or scripts.")],
    chapter: Annotated[str | None, typer.Option(help="Which chapter they answer; else each file tells.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a file, in place of tables.")] = False,
    trusted: Annotated[bool, typer.Option("--trusted", help="Grade several without a sandbox all the same.")] = False,
) -> None:
    """Judge notebooks: their code in a sandbox, the laws outside."""
    from m6rec_mini.course.grade_command import grade as graded

    raise typer.Exit(graded(submissions, chapter, as_json, trusted))


@app.command()
def prove(
    chapters: Annotated[list[str] | None, typer.Argument(metavar="[NN]…", help="Chapters; else all.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes for the mutants.")] = 2,
) -> None:
    """Show that the graders are sound: right answers pass, wrong ones, mutants and cheats do not."""
    from m6rec_mini.course.prove.command import run

    if not run(chapters or [], workers, Console()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
