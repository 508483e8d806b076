"""`m6rec benchmark`: everything that the project claims, measured in one run and told as it came out.

The one idea: a benchmark is a list of jobs (`plan`). Two at a time, one thread each, they train in
processes of their own and leave files; what has a file is not done again. At the end the tables are
made from the files, rows that look bad included: see `report`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from m6rec_mini.benchmark.jobs import Data, Job, finished, run_job
from m6rec_mini.benchmark.report import make_sections, write_results
from m6rec_mini.benchmark.tables import About, Results
from m6rec_mini.catalog import Catalog
from m6rec_mini.recipe import Recipe
from m6rec_mini.training import LoopConfig

PARTS = ("accuracy", "cold items", "ablations", "global time", "speed")  # what may be asked for
BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_benchmark(
    path: Path | None,
    out: Path,
    seeds: int = 3,
    quick: bool = False,
    data: str = "movielens",
    console: Console | None = None,
    *,
    parts: Sequence[str] = PARTS,
    workers: int = 2,
) -> None:
    """Run what has not been run yet, then print the tables and write `out/RESULTS.md` with its plots.

    `quick` is a smoke test: one seed, an epoch or two, and a tiny world where `data` is "world".
    `workers=0` runs all in this process. Raises DataError if the data cannot be read, ValueError for
    an unknown part, and RuntimeError, after the tables, if jobs have failed.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"the benchmark has no part {unknown[0]!r}; expected some of {', '.join(PARTS)}")
    console = console or Console()
    source, seeds = Data(data, path, quick), 1 if quick else seeds
    with console.status("reading the data"):
        catalog = source.catalog()
    jobs = plan(source, catalog, seeds, parts)
    failed = run_jobs(jobs, source, out, workers, console)
    results = Results.load(jobs, source, out)
    about = About.of(catalog, data, seeds, quick, [f"{job.name}, seed {job.seed}: {e}" for job, e in failed])
    sections = make_sections(results, about)
    for section in sections:
        section.show(console)
    file = write_results(sections, about, out)
    console.print(f"[bold]{file}[/bold] has these tables; the plots are beside it.")
    if not failed:  # nothing is left to go on with
        for spare in ("checkpoints", "encoders"):
            shutil.rmtree(out / spare, ignore_errors=True)
    else:
        names = ", ".join(job.stem for job, _ in failed)
        raise RuntimeError(f"{len(failed)} of {len(jobs)} jobs failed ({names}); run the same command to try again")


# ---- the plan ---------------------------------------------------------------------------------


def recipe_for(seed: int, quick: bool) -> Recipe:
    """The recipe of `m6rec train`; for the smoke test with hardly any epochs."""
    recipe = Recipe(seed=seed)
    if not quick:
        return recipe
    encoder, decoder, writing = (
        replace(loop, epochs=epochs)
        for loop, epochs in ((recipe.encoder_loop, 1), (recipe.decoder_loop, 2), (recipe.writing_loop, 1))
    )
    return replace(recipe, encoder_loop=encoder, decoder_loop=decoder, writing_loop=writing)


def plan(data: Data, catalog: Catalog, seeds: int, parts: Sequence[str] = PARTS) -> list[Job]:
    """All jobs, in the order in which they start; the one that measures speed comes last, to run alone."""
    jobs: list[Job] = []
    if "accuracy" in parts or "ablations" in parts or "speed" in parts:
        jobs += [Job("model", "model", seed, recipe_for(seed, data.quick)) for seed in range(seeds)]
    if "accuracy" in parts:
        epochs = 2 if data.quick else None
        jobs.append(Job("counting", "counting"))
        jobs += [Job("SASRec", "sasrec", seed, epochs=epochs) for seed in range(seeds)]
        jobs += [Job("BPR-MF", "bpr", seed, epochs=epochs) for seed in range(seeds)]
    if "global time" in parts:
        jobs.append(Job("global time", "global time", 0, silent(recipe_for(0, data.quick))))
    for part, make in (("cold items", cold_jobs), ("ablations", ablation_jobs)):
        if part in parts:
            jobs += [job for seed in range(seeds) for job in make(data, recipe_for(seed, data.quick), catalog)]
    if "speed" in parts:
        jobs.append(Job("speed", "speed", 0, recipe_for(0, data.quick)))
    return jobs


def steps(catalog: Catalog) -> list[tuple[str, ...]]:
    """What is read, growing: text, then the picture too; all there is comes by itself.

    A step is left out where some item would have nothing to read.
    """
    grown = [some for some in (("text",), ("text", "image")) if set(some) < set(catalog.modalities)]
    return [some for some in grown if all(set(some) & set(item.modalities) for item in catalog.items)]


def cold_jobs(data: Data, recipe: Recipe, catalog: Catalog) -> list[Job]:
    """Everything with tags, if there are any; without them each step, everything, and the shuffled control."""
    recipe = silent(recipe)
    tags = not data.has_tags
    jobs = [Job("cold, with tags", "cold", recipe.seed, recipe)] if data.has_tags else []
    variants = [*steps(catalog), None]
    jobs += [Job(f"cold, {spoken(some)}", "cold", recipe.seed, reading(recipe, some), tags) for some in variants]
    if len(catalog.modalities) > 1:
        jobs.append(Job("cold, shuffled", "cold", recipe.seed, recipe, tags, shuffled=True))
    return jobs


def ablation_jobs(_data: Data, recipe: Recipe, catalog: Catalog) -> list[Job]:
    """One change each. The full model without writing, and without the prior, come with the job "model"."""
    recipe = silent(recipe)
    model = recipe.model
    changes = {spoken(some): reading(recipe, some) for some in steps(catalog)} | {
        "concatenation": replace(recipe, model=replace(model, fusion=replace(model.fusion, kind="concatenation"))),
        "no pretraining": replace(recipe, encoder_loop=without_epochs(recipe.encoder_loop)),
        "no identities": replace(recipe, model=replace(model, identities=False)),
    }
    jobs = [Job(f"ablation, {name}", "ablation", recipe.seed, changed) for name, changed in changes.items()]
    if len(catalog.modalities) > 1:
        jobs.append(Job("ablation, shuffled", "ablation", recipe.seed, recipe, shuffled=True))
    return jobs


def silent(recipe: Recipe) -> Recipe:
    """Without the stage that learns to write IDs and words, where only scores are compared."""
    return replace(recipe, writing_loop=without_epochs(recipe.writing_loop))


def without_epochs(loop: LoopConfig) -> LoopConfig:
    """A stage that is left out."""
    return replace(loop, epochs=0)


def reading(recipe: Recipe, modalities: tuple[str, ...] | None) -> Recipe:
    """The recipe that reads these modalities only."""
    return replace(recipe, content=replace(recipe.content, modalities=modalities))


def spoken(modalities: tuple[str, ...] | None) -> str:
    """How tables call a choice of modalities."""
    return "everything" if modalities is None else " + ".join(modalities)


# ---- running ----------------------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job], data: Data, out: Path, workers: int, console: Console
) -> list[tuple[Job, BaseException]]:
    """Run the jobs that have no result yet; returns those that failed, with the reason. Speed is measured last."""
    todo = [job for job in jobs if finished(job, data, out) is None]
    alone = [job for job in todo if job.task == "speed"]
    failed: list[tuple[Job, BaseException]] = []
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("jobs, {task.description}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(jobs), completed=len(jobs) - len(todo))
        for group, width in (([job for job in todo if job not in alone], workers), (alone, min(workers, 1))):
            with pool(width) as executor:
                futures = {executor.submit(run_job, job, data, out): job for job in group}
                for future in as_completed(futures):
                    job, error = futures[future], future.exception()
                    if error is not None:
                        failed.append((job, error))
                        progress.console.print(f"[red]{job.stem} failed:[/red] {type(error).__name__}: {error}")
                    progress.update(bar, advance=1, description=f"last: {job.stem}")
    return failed


class Here(Executor):
    """An executor that does it at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Call, and keep what came of it."""
        future: Future[object] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def pool(workers: int) -> Iterator[Executor]:
    """Processes of one thread each; on Ctrl-C what has not started is dropped."""
    if workers == 0:
        yield Here()
        return
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))  # a child reads it when it imports NumPy
    executor = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
