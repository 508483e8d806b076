"""The main job: make a world, train, beat honest baselines, explain a list, write the report.

Everything that is decided about the demo is decided here, by `DemoConfig`; how things are learnt,
measured and shown is said where it is done. The world is synthetic, and every output says so.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from m6rec_mini import __version__
from m6rec_mini.baselines import EASE, ItemKNN, Markov, Popularity, RecencyEASE
from m6rec_mini.bpr import BPRMF, BPRConfig
from m6rec_mini.catalog import Catalog, DataError, Event
from m6rec_mini.console import TrainingProgress, contest_view, plain, ranked_table
from m6rec_mini.content import ContentConfig
from m6rec_mini.contest import Contest, Row, Trained, judge, judge_oracle
from m6rec_mini.datasets.folder import save_folder
from m6rec_mini.datasets.world import World, WorldConfig, make_world
from m6rec_mini.decoder import DecoderConfig
from m6rec_mini.evaluation import Ranker, Split, evaluate, leave_one_out
from m6rec_mini.jobs import check_room, most_epochs, save_model
from m6rec_mini.model import ModelConfig, to_dict
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.recipe import Recipe, train
from m6rec_mini.recommender import DONE, Recommender
from m6rec_mini.report import Findings, Past, Story, write_report
from m6rec_mini.sasrec import SASRec, SASRecConfig
from m6rec_mini.training import Epoch, LoopConfig

DATA = (
    "The data are synthetic: an open-domain world whose items, users and events are drawn from a known model. "
    "Numbers on this page say that the method works where its assumptions hold; they say nothing about real people."
)
SHOWN_EVENTS = 8
HISTORY, CANDIDATES = "history.jsonl", "candidates.jsonl"


def demo_recipe(seed: int = 0) -> Recipe:
    """A recipe for the default world that two cores finish within the demo's two minutes."""
    return Recipe(
        content=ContentConfig(text_length=24),
        model=ModelConfig(decoder=DecoderConfig(dropout=0.1)),
        encoder_loop=LoopConfig(epochs=3, batch=128, patience=3),
        decoder_loop=LoopConfig(epochs=26, learning_rate=6e-3, patience=4),
        writing_loop=LoopConfig(epochs=2, learning_rate=3e-3, patience=2),
        seed=seed,
    )


@dataclass(frozen=True)
class DemoConfig:
    """World, recipe, and how long the two baselines that are trained may train."""

    world: WorldConfig = field(default_factory=WorldConfig)
    recipe: Recipe = field(default_factory=demo_recipe)
    bpr: BPRConfig = field(default_factory=lambda: BPRConfig(epochs=40))
    sasrec: SASRecConfig | None = None  # to train it as well takes longer than all the rest


def run_demo(out: Path, console: Console, config: DemoConfig | None = None) -> Contest:
    """Everything, into `out`: report.html, model/ and example/; what an earlier demo left there is replaced."""
    config, start = config or DemoConfig(), time.perf_counter()
    check_room(out / "model", force=True)
    _check_example(out / "example")
    out.mkdir(parents=True, exist_ok=True)
    console.print(Text("A synthetic world: no real people or items.", "bold"))
    world = make_world(config.world)
    catalog = world.catalog
    split = leave_one_out(catalog.interactions)
    console.print(f"{len(catalog.items):,} items, {len(catalog.users):,} users, {len(catalog.events):,} events")

    log: list[Epoch] = []
    recommender, seconds = _train(catalog, split, config.recipe, log, console)
    contest = _compare(recommender, seconds, world, split, config, console)
    console.print(
        contest_view(contest, f"Synthetic world, {len(split.test):,} users, full catalogue, seen items masked")
    )
    story = tell(recommender, catalog, split, contest.model)
    show_story(story, console)

    save_model(recommender, out / "model")
    save_example(story, catalog, config.world, out / "example")
    minutes = time.perf_counter() - start
    made = _made(config, catalog, recommender, seconds, minutes)
    recipe = json.dumps({"world": to_dict(config.world), "recipe": to_dict(config.recipe)}, indent=1)
    findings = Findings("M6-Rec Mini: demo on a synthetic world", DATA, contest, log, story, made, recipe, NOTES)
    write_report(findings, out / "report.html")
    _farewell(out, minutes, console)
    return contest


def _train(
    catalog: Catalog, split: Split, recipe: Recipe, log: list[Epoch], console: Console
) -> tuple[Recommender, float]:
    start = time.perf_counter()
    with TrainingProgress(console, most_epochs(recipe)) as progress:

        def on_epoch(done: Epoch) -> None:
            log.append(done)
            progress(done)

        recommender = train(catalog, split, recipe, on_epoch=on_epoch)
    return recommender, time.perf_counter() - start


# ---- the contest ----------------------------------------------------------------------------------


def _compare(
    recommender: Recommender, seconds: float, world: World, split: Split, config: DemoConfig, console: Console
) -> Contest:
    trained = Trained(recommender, world.catalog)
    model = Row(evaluate(trained, split.test, split.train), seconds)
    rows = []
    for ranker, note in opponents(config):
        with console.status(f"baseline: {ranker.name}"):
            rows.append(judge(ranker, split, note))
    return Contest(model, rows, judge_oracle(world, split))


def opponents(config: DemoConfig) -> list[tuple[Ranker, str]]:
    """The baselines, each with what must be said beside its number."""
    plain_ones: list[Ranker] = [Popularity(), ItemKNN(), Markov(), EASE(), RecencyEASE()]
    rankers = [(ranker, "") for ranker in plain_ones]
    rankers += [(BPRMF(config.bpr), "")]
    if config.sasrec is not None:
        note = f"under-trained: at most {config.sasrec.epochs} epochs, to keep the demo short"
        rankers += [(SASRec(config.sasrec), note)]
    return [*rankers, (CooccurrencePrior(), "the model's own prior without its network")]


# ---- one user -------------------------------------------------------------------------------------


def tell(recommender: Recommender, catalog: Catalog, split: Split, model: Row, k: int = 10) -> Story:
    """The first user with a varied past: chosen for the history, never for how good the list is."""
    case = _varied(catalog, split)
    user = catalog.users[int(split.test.users[case])]
    events = sorted((e for e in catalog.events if e.user == user), key=lambda e: e.timestamp)[:-1]
    places = recommender.recommend(events, k=k)
    item = {item.id: item for item in catalog.items}
    return Story(
        user=user,
        chosen_how="the first user with at least 12 events in 3 domains, chosen without a look at the list",
        topic=recommender.topic(recommender.history(events)),
        history=[Past(item[e.item], e.action, e.timestamp) for e in events[-SHOWN_EVENTS:]],
        events=events,
        places=places,
        items=[item[place.item.id] for place in places],
        next_item=catalog.items[int(split.test.targets[case])],
        next_rank=int(model.evaluation.ranks[case]),
    )


def _varied(catalog: Catalog, split: Split) -> int:
    for case, history in enumerate(split.test.histories):
        if len(history) >= 12 and len({catalog.items[n].domain for n in history.items[-SHOWN_EVENTS:]}) >= 3:
            return case
    return int(np.argmax([len(history) for history in split.test.histories]))


def show_story(story: Story, console: Console) -> None:
    """History, ranked list, and what really came next."""
    console.print(Text(f"\n{story.user}, {story.chosen_how}", "bold"))
    for past in story.history:
        console.print(Text(plain(f"  {DONE[past.action]} {past.item.label} ({past.item.domain})")))
    if story.topic:
        console.print(Text(plain("Expected next, in the model's words: " + ", ".join(story.topic))))
    console.print(ranked_table(story.places, "Ranked list: log-probabilities, and what hiding a modality costs"))
    console.print(
        Text(plain(f"Really chosen next: {story.next_item.label}, which the model ranks {story.next_rank:,}."))
    )


# ---- files to try ---------------------------------------------------------------------------------


def _check_example(folder: Path) -> None:
    if folder.exists() and not (folder / CANDIDATES).is_file():
        raise DataError(f"{folder} is taken, and not by an earlier demo; choose another --out")


def save_example(story: Story, catalog: Catalog, world: WorldConfig, folder: Path) -> None:
    """The user's history, and candidates with media: known items, and five that the model has never met."""
    met = {event.item for event in story.events}
    rng = np.random.default_rng(world.seed)
    others = [item for item in catalog.items if item.id not in met]
    known = [others[n] for n in rng.choice(len(others), min(20, len(others)), replace=False)]
    elsewhere = make_world(WorldConfig(items=100, users=5, seed=world.seed + 1)).catalog.items[:5]
    new = [replace(item, id=f"new-{item.id}") for item in elsewhere]
    shutil.rmtree(folder, ignore_errors=True)
    save_folder(Catalog("example", [*known, *new]), folder)
    (folder / "items.jsonl").rename(folder / CANDIDATES)
    (folder / "catalog.json").unlink()
    lines = [json.dumps(_record(event), ensure_ascii=False) for event in story.events]
    (folder / HISTORY).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _record(event: Event) -> dict[str, str | int]:
    record: dict[str, str | int] = {"user": event.user, "item": event.item, "action": event.action}
    record["timestamp"] = event.timestamp
    return record if event.comment is None else record | {"comment": event.comment}


def _farewell(out: Path, seconds: float, console: Console) -> None:
    example = out / "example"
    command = (
        f"m6rec recommend --model {out / 'model'} --history {example / HISTORY} "
        f"--candidates {example / CANDIDATES} --k 10"
    )
    console.print(f"\nDone in {seconds:.0f} s. The report: {out / 'report.html'}", markup=False, soft_wrap=True)
    console.print(f"Try, with five items that the model has never met:\n  {command}", markup=False, soft_wrap=True)


# ---- how it was made ------------------------------------------------------------------------------


def _made(
    config: DemoConfig, catalog: Catalog, recommender: Recommender, seconds: float, total: float
) -> dict[str, str]:
    network = recommender.scorer.model
    weights = {name: value for name, value in to_dict(recommender.scorer.weights).items() if value}
    return {
        "data": f"synthetic world, seed {config.world.seed}: {len(catalog.items):,} items, {len(catalog.users):,} "
        f"users, {len(catalog.events):,} events",
        "split": "leave-one-out: each user's last event is the test, the one before it is for tuning",
        "model": f"{sum(p.numel() for p in network.parameters()):,} parameters, seed {config.recipe.seed}",
        "weights of the score's parts": ", ".join(f"{name} {value:.2f}" for name, value in weights.items()),
        "time": f"{seconds:.0f} s of training, {total:.0f} s in all",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} torch threads, {platform.system()}",
        "versions": f"m6rec-mini {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"NumPy {np.__version__}",
    }


NOTES: Sequence[str] = (
    "The world is made by the same project as the model. Its rules are not shown to the model, but a world that was "
    "made up is kinder than a real one: use m6rec benchmark on real data before you believe a number.",
    "One seed and one split. Intervals are over users: they say how far other users of this world might differ, not "
    "how far another training run would.",
    "The best baseline was picked on the cases that are reported, which favours it.",
    "Rankers see the whole catalogue; items of the history are masked; ties count against the target.",
    "Tail HR@50 is over users whose next item has at most ten training events.",
    "A reason names the past event without which the score would fall most. It explains the score, not the user.",
    "The oracle knows every user's tastes and the topic of a running session, but not the dice: nobody can beat it "
    "by more than chance.",
)
