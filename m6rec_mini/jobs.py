"""What the commands do, apart from parsing: read data, train, evaluate, recommend, describe.

The one idea: a job checks everything that can be checked before it starts to work, so that nobody
waits for an hour to be told that the folder for the result was taken. What is wrong is a DataError
or CheckpointError with a message that says what to do; the command line only prints it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from rich.text import Text

from m6rec_mini.catalog import ACTIONS, Catalog, DataError, Event, Item
from m6rec_mini.console import TrainingProgress, plain, remark, show_rejected, single_table
from m6rec_mini.contest import Trained, judge
from m6rec_mini.datasets import SOURCES, fsdd, load_with_report, open_bandit
from m6rec_mini.datasets.folder import read_events, read_items, save_folder
from m6rec_mini.datasets.records import OnBad
from m6rec_mini.evaluation import Split, leave_one_out
from m6rec_mini.model import to_dict
from m6rec_mini.recipe import Recipe, train
from m6rec_mini.recommender import ABOUT, Recommendation, Recommender
from m6rec_mini.training import CheckpointError, current_share

RUN = "run.json"  # beside the checkpoints: which data and settings they belong to


# ---- reading --------------------------------------------------------------------------------------


def read_data(name: str, path: Path | None, bad: OnBad) -> Catalog:
    """A catalog by name; what was skipped is told once, whatever the number of processes."""
    catalog, report = load_with_report(name, path, bad=bad)
    if current_share().rank == 0:
        show_rejected(report)
    return catalog


def read_history(file: Path, user: str | None, bad: OnBad) -> list[Event]:
    """One user's events. Raises DataError, with some names, if the file has several users and none is chosen."""
    events, report = read_events(file, bad=bad)
    show_rejected(report)
    users = list(dict.fromkeys(event.user for event in events))
    some = ", ".join(users[:5]) + (" …" if len(users) > 5 else "")
    if user is None and len(users) > 1:
        raise DataError(f"{file} has events of {len(users):,} users ({some}); choose one, such as --user {users[0]}")
    if user is not None and user not in users:
        raise DataError(f"{file} has no event of user {user!r}; it has {some}")
    return [event for event in events if user in (None, event.user)]


def known_events(events: Sequence[Event], known: Collection[str], file: Path, bad: OnBad) -> list[Event]:
    """The events on items that can be judged. Raises DataError if others are there and bad is "strict"."""
    unknown = list(dict.fromkeys(event.item for event in events if event.item not in known))
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        message = f"{file}: item {unknown[0]!r}{more} of the history is neither in the model's catalog nor a candidate"
        if bad == "strict":
            raise DataError(f"{message}; add it to the candidates, or go on without these events: --skip-bad")
        remark(f"{message}; these events are left out")
    return [event for event in events if event.item in known]


def read_candidates(file: Path, readable: Collection[str], bad: OnBad) -> list[Item]:
    """Items with something that the model reads. Raises DataError if there are others and bad is "strict"."""
    items, report = read_items(file, bad=bad)
    show_rejected(report)
    blank = [item for item in items if not set(item.modalities) & set(readable)]
    if blank:
        message = (
            f"{file}: item {blank[0].id!r} has only {', '.join(blank[0].modalities)}; "
            f"this model reads {', '.join(readable)}"
        )
        if bad == "strict" or len(blank) == len(items):
            raise DataError(f"{message}. Give it one of these, or go on without such items: --skip-bad")
        remark(f"{message}; {len(blank):,} such items are left out")
    return [item for item in items if item not in blank]


def device_named(name: str) -> torch.device:
    """The device; "auto" is a GPU if there is one. Raises ValueError if there is no such device here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))  # torchrun: a GPU for each process
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({_first_line(error)}); try --device cpu") from error
    return device


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# ---- training -------------------------------------------------------------------------------------


def check_room(folder: Path, force: bool) -> None:
    """Raise DataError if a model cannot be saved there; with `force`, only a saved model may be replaced."""
    if folder.is_dir() and (folder / ABOUT).is_file():
        if not force:
            raise DataError(f"{folder} holds a model already; choose another --model, or replace it with --force")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is taken, and not by a model; choose another --model")


def save_model(recommender: Recommender, folder: Path) -> None:
    """Save; a model that is there already stays until the new one is complete."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        recommender.save(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def split_of(catalog: Catalog) -> Split:
    """Leave-one-out; raises DataError if nobody has three events."""
    split = leave_one_out(catalog.interactions)
    if not len(split.test):
        raise DataError(
            f"no user of {catalog.name} has 3 events: one to learn from, one to tune on and one to test on; add events"
        )
    return split


def train_job(
    catalog: Catalog, recipe: Recipe, folder: Path, console: Console, device: torch.device, force: bool = False
) -> None:
    """Train and save, from the last finished epoch of a killed run if there was one."""
    check_room(folder, force)
    split, checkpoints = split_of(catalog), folder.with_name(folder.name + ".training")
    resumed = open_run(checkpoints, run_key(catalog, recipe))
    console.print(
        f"{catalog.name}: {len(catalog.items):,} items, {len(catalog.users):,} users, {len(catalog.events):,} events. "
        f"{'Going on from' if resumed else 'Checkpoints are in'} {checkpoints}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    try:
        with TrainingProgress(console, most_epochs(recipe)) as progress:
            recommender = train(catalog, split, recipe, checkpoints, progress, device)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on after the last finished epoch") from None
    if current_share().of > 1:
        dist.barrier()  # nobody may still be reading the checkpoints
    if current_share().rank == 0:
        save_model(recommender, folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
    console.print(f"Saved in {folder}. Try: m6rec recommend --model {folder}", markup=False, soft_wrap=True)


def most_epochs(recipe: Recipe) -> dict[str, int]:
    """How many epochs each stage may run."""
    loops = {"encoders": recipe.encoder_loop, "decoder": recipe.decoder_loop, "writing": recipe.writing_loop}
    return {stage: loop.epochs for stage, loop in loops.items()}


def limit_epochs(recipe: Recipe, epochs: int | None) -> Recipe:
    """The recipe with at most so many epochs in every stage."""
    if epochs is None:
        return recipe
    loops = {name: getattr(recipe, name) for name in ("encoder_loop", "decoder_loop", "writing_loop")}
    return replace(recipe, **{name: replace(loop, epochs=min(loop.epochs, epochs)) for name, loop in loops.items()})


def run_key(catalog: Catalog, recipe: Recipe) -> dict[str, Any]:
    """What must be the same for a run to be continued: the recipe, and the data by a checksum."""
    log, sums = catalog.interactions, 0
    for item in catalog.items:
        sums = zlib.crc32(repr((item.id, item.text, item.modalities)).encode("utf-8", "surrogatepass"), sums)
    for column in (log.users, log.items, log.actions, log.times):
        sums = zlib.crc32(column.tobytes(), sums)
    key = {"data": catalog.name, "checksum": sums, "recipe": to_dict(recipe)}
    return dict(json.loads(json.dumps(key)))  # tuples become lists, as when it is read again


def open_run(folder: Path, key: dict[str, Any]) -> bool:
    """True if the folder holds the start of this very run; raises CheckpointError if it is another's."""
    file = folder / RUN
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except ValueError:
        found = {}
    if found is not None and found != key:
        raise CheckpointError(
            f"{folder} holds an unfinished run with other data or settings. Go on with those, "
            "choose another --model, or delete that folder to start again"
        )
    if current_share().rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{RUN}.part"
        beside.write_text(json.dumps(key), encoding="utf-8")
        beside.replace(file)
    return found is not None


# ---- evaluating and recommending ------------------------------------------------------------------


def evaluate_job(recommender: Recommender, catalog: Catalog, console: Console) -> None:
    """Leave-one-out metrics of a saved model on a catalog, the same split as in training."""
    split = split_of(catalog)
    known = sum(item.id in recommender.index for item in catalog.items)
    row = judge(Trained(recommender, catalog), split)
    title = f"{catalog.name}: leave-one-out, {len(split.test):,} users, {len(catalog.items):,} items"
    console.print(single_table(row, title))
    if known < len(catalog.items):
        unknown = len(catalog.items) - known
        remark(f"{unknown:,} of {len(catalog.items):,} items are new to this model: it ranks them by content alone")


def as_json(places: Sequence[Recommendation]) -> str:
    """The list for machines, with everything that is known of each place."""
    return json.dumps([_record(place) for place in places], ensure_ascii=False, allow_nan=False, indent=1)


def _record(place: Recommendation) -> dict[str, Any]:
    return {
        "rank": place.rank,
        "id": place.item.id,
        "title": place.item.title,
        "domain": place.item.domain,
        "score": place.score,
        "reason": place.reason,
        "words": list(place.words),
        "because": [{"id": b.item.id, "action": b.action, "drop": b.drop} for b in place.because],
        "modalities": place.modalities,
        "attention": place.attention,
    }


def as_csv(places: Sequence[Recommendation]) -> str:
    """The list for spreadsheets."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "id", "score", "title", "domain", "reason"])
    writer.writerows([p.rank, p.item.id, p.score, p.item.title, p.item.domain, p.reason] for p in places)
    return text.getvalue().rstrip("\n")


# ---- describing -----------------------------------------------------------------------------------


def list_sources(console: Console) -> None:
    """Every data set: what it is, who published it and under which terms."""
    table = Table("name", "what it is", "published by", "licence", title="Data sets", title_justify="left", leading=1)
    for source in SOURCES.values():
        table.add_row(source.name, source.about, source.publisher, source.licence)
    console.print(table)


def describe_job(name: str, path: Path | None, out: Path | None, bad: OnBad, console: Console) -> None:
    """Show a data set; with `out`, also write it as a folder that `--data folder` reads."""
    if name in SOURCES and not SOURCES[name].is_catalog:
        if out is not None:
            raise DataError(f"{name} has no items with histories, so it cannot be written as a folder; leave out --out")
        _describe_other(name, SOURCES[name].folder(path), console)
    else:
        catalog = read_data(name, path, bad)
        describe(catalog, console)
        if out is not None:
            save_folder(catalog, out)
            console.print(f"Written to {out}. Try: m6rec train --data folder --path {out}", markup=False)
    source = SOURCES[name]
    console.print(Text(f"Published by: {source.publisher}\nLicence: {source.licence}", "dim"))


def _describe_other(name: str, path: Path, console: Console) -> None:
    if name == "fsdd":
        digits = fsdd.load(path)
        console.print(
            f"fsdd: {len(digits):,} sounds, {len(set(digits.speakers))} speakers; {digits.test.sum():,} to test"
        )
        return
    for policy in ("random", "bts"):
        if (path / policy).is_dir():
            log = open_bandit.load(path, policy)
            console.print(f"{policy}: {len(log):,} rounds, {log.num_items} items, {log.rewards.sum():,} clicks")


def describe(catalog: Catalog, console: Console, shown: int = 5) -> None:
    """Counts, modalities, actions, domains, and a few items."""
    log, items = catalog.interactions, catalog.items
    console.print(Text(f"{catalog.name}: {catalog.derived or 'actions are as the source has them'}", "bold"))
    facts = Table(box=None, show_header=False)
    facts.add_row("items", f"{len(items):,}, {int((log.item_counts == 0).sum()):,} of them without events")
    facts.add_row("users", f"{len(catalog.users):,}, {len(catalog.friends):,} friendships")
    facts.add_row("events", f"{len(log):,}{_period(catalog)}")
    for name in catalog.modalities:
        count = sum(name in item.modalities for item in items)
        facts.add_row(name, f"{count:,} items have it ({count / len(items):.0%})")
    for number, action in enumerate(ACTIONS):
        facts.add_row(action, f"{int((log.actions == number).sum()):,} events")
    domains = list(dict.fromkeys(item.domain or "(none)" for item in items))
    facts.add_row("domains", Text(plain(", ".join(domains[:12]) + (" …" if len(domains) > 12 else ""))))
    console.print(facts)
    sample = Table("id", "domain", "title", "modalities", "events")
    for row in range(0, len(items), max(len(items) // shown, 1))[:shown]:
        item = items[row]
        cells = (item.id, item.domain, item.label, ", ".join(item.modalities), f"{log.item_counts[row]:,}")
        sample.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(sample)


def _period(catalog: Catalog) -> str:
    times = catalog.interactions.times
    if not len(times) or times.min() == times.max():
        return ""
    first, last = (datetime.fromtimestamp(int(t), UTC).date() for t in (times.min(), times.max()))
    return f", {first} to {last}"
