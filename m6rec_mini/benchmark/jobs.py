"""The jobs of the benchmark: each trains one thing on one split with one seed, and keeps its ranks.

The one idea: measuring and telling are apart. A job saves where the target stood in every test case
and nothing else; whatever a table says is made from these files. So a run that was killed goes on
where it stopped, two machines may share the work, and a table can be drawn again without training.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from m6rec_mini.baselines import EASE, ContentKNN, ItemKNN, Markov, Popularity, RecencyEASE, RecentPopularity
from m6rec_mini.benchmark.knn import content_knn, token_lists
from m6rec_mini.benchmark.speed import measure_speed
from m6rec_mini.bpr import BPRMF, BPRConfig
from m6rec_mini.catalog import RAW_MODALITIES, Catalog, History, Item
from m6rec_mini.datasets import load
from m6rec_mini.evaluation import Cases, Evaluation, Ranker, Split, evaluate, global_time, hold_out_items, leave_one_out
from m6rec_mini.prior import CooccurrencePrior
from m6rec_mini.recipe import Recipe, train
from m6rec_mini.recommender import Recommender
from m6rec_mini.sasrec import SASRec, SASRecConfig
from m6rec_mini.scoring import Scorer, fit_weights
from m6rec_mini.training import Epoch

Task = Literal["model", "ablation", "cold", "counting", "bpr", "sasrec", "global time", "speed"]
PENALTIES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)  # of popularity, for the curve of the tail
COLD_SHARE = 0.1  # of the items
BEAM = 50  # a narrower one finds too few items once the seen ones are masked
BATCH = 64  # cases at a time; a beam search keeps BEAM caches for each


@dataclass(frozen=True)
class Data:
    """Where the catalog comes from; every worker reads it for itself."""

    name: str
    path: Path | None = None
    quick: bool = False  # a tiny world, for the smoke test

    @property
    def has_tags(self) -> bool:
        """Whether the texts hold tags that people wrote, which can be left out."""
        return self.name == "movielens" and self.path is not None and (self.path / "items.csv").is_file()

    def catalog(self, tags: bool = True, shuffle: int | None = None) -> Catalog:
        """The catalog, with or without human tags, modalities shuffled by the seed `shuffle` if given."""
        catalog = _load(self, tags or not self.has_tags)
        return catalog if shuffle is None else shuffle_modalities(catalog, shuffle)


@lru_cache(maxsize=2)
def _load(data: Data, tags: bool) -> Catalog:
    options: dict[str, Any] = {"tags": tags} if data.name == "movielens" else {}
    if data.name == "world" and data.quick:
        options = {"items": 200, "users": 100, "missing": (0.0, 0.15, 0.2)}  # texts for all: they are read alone too
    return load(data.name, data.path, **options)


@dataclass(frozen=True)
class Job:
    """One thing to train, and how."""

    name: str
    task: Task
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    tags: bool = True
    shuffled: bool = False
    epochs: int | None = None  # of SASRec and BPR-MF; None for their own default

    @property
    def stem(self) -> str:
        """Its file's name without an ending."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')}-{self.seed}"

    def fingerprint(self, data: Data) -> str:
        """Everything that decides the result but the code and the place of the data."""
        return json.dumps([data.name, data.quick, asdict(self)])


@dataclass(frozen=True, eq=False)
class Result:
    """What a job leaves: rows of ranks by name, and facts for tables of time and settings."""

    rows: Mapping[str, Evaluation] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, file: Path, fingerprint: str = "") -> None:
        """One .npz, complete or not at all."""
        names = [f.name for f in fields(Evaluation) if f.name != "name"]
        arrays = {f"{row}/{name}": getattr(e, name) for row, e in self.rows.items() for name in names}
        about = {"rows": list(self.rows), "facts": self.facts, "fingerprint": fingerprint}
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".part")
        with beside.open("wb") as opened:
            np.savez_compressed(opened, about=np.array(json.dumps(about)), **arrays)
        beside.replace(file)

    @classmethod
    def load(cls, file: Path) -> tuple[Result, str]:
        """What `save` wrote, and the fingerprint."""
        names = [f.name for f in fields(Evaluation) if f.name != "name"]
        with np.load(file) as arrays:
            about = json.loads(str(arrays["about"]))
            rows = {row: Evaluation(row, **{name: arrays[f"{row}/{name}"] for name in names}) for row in about["rows"]}
        return cls(rows, about["facts"]), about["fingerprint"]


def job_file(job: Job, out: Path) -> Path:
    """Where a job's result is kept."""
    return out / "jobs" / f"{job.stem}.npz"


def finished(job: Job, data: Data, out: Path) -> Result | None:
    """The saved result, if there is one and it is of this very job."""
    file = job_file(job, out)
    if not file.exists():
        return None
    result, fingerprint = Result.load(file)
    return result if fingerprint == job.fingerprint(data) else None


def run_job(job: Job, data: Data, out: Path) -> None:
    """Do it and save the result; only then are its checkpoints removed."""
    start = time.perf_counter()
    with checkpoints(job, data, out) as folder:
        result = TASKS[job.task](job, data, out, folder)
        facts = {**result.facts, "job seconds": time.perf_counter() - start}
        Result(result.rows, facts).save(job_file(job, out), job.fingerprint(data))


# ---- data and training ------------------------------------------------------------------------


def shuffle_modalities(catalog: Catalog, seed: int) -> Catalog:
    """The control: pictures, sounds and features change hands among the items that have them; text stays.

    Who has which modality stays as it was, since that alone can tell popular items from others.
    """
    rng, items = np.random.default_rng(seed), list(catalog.items)
    for name in catalog.modalities:
        if name != "text":
            having = [row for row, item in enumerate(items) if name in item.modalities]
            for row, other in zip(having, rng.permutation(having), strict=True):
                items[row] = with_modality(items[row], name, catalog.items[other])
    return replace(catalog, items=items)


def with_modality(item: Item, name: str, other: Item) -> Item:
    """The item with one modality of another item."""
    if name in RAW_MODALITIES:
        changed: dict[str, Any] = {name: getattr(other, name)}
        return replace(item, **changed)
    return replace(item, features={**item.features, name: other.features[name]})


@contextmanager
def checkpoints(job: Job, data: Data, out: Path) -> Iterator[Path]:
    """A folder from which a killed training goes on; encoders are borrowed from a job that had the same.

    It is removed when the block ends well, and kept when it raises.
    """
    recipe, split = job.recipe, job.task if job.task in ("cold", "global time") else "leave-one-out"
    parts: list[Any] = [recipe.content, recipe.model.encoder, recipe.pretrain, recipe.encoder_loop]
    same = [data.name, data.quick, split, job.tags, job.shuffled, job.seed, *(asdict(part) for part in parts)]
    folder = out / "checkpoints" / f"{job.stem}-{digest(job.fingerprint(data))}"
    shared = out / "encoders" / digest(json.dumps(same))
    own = folder / "encoders.safetensors"
    if shared.exists() and not own.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared, own.with_suffix(".part"))
        own.with_suffix(".part").replace(own)
    yield folder
    if own.exists():
        shared.parent.mkdir(parents=True, exist_ok=True)
        own.replace(shared)
    shutil.rmtree(folder, ignore_errors=True)


def digest(text: str) -> str:
    """A short name for a long text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trained(catalog: Catalog, split: Split, recipe: Recipe, folder: Path) -> tuple[Recommender, dict[str, Any]]:
    """The recommender, and what its training took."""
    log: list[Epoch] = []
    recommender = train(catalog, split, recipe, folder, log.append)
    stages = {epoch.stage: [e for e in log if e.stage == epoch.stage] for epoch in log}
    model = recommender.scorer.model
    return recommender, {
        "weights": asdict(recommender.scorer.weights),
        "epochs": {name: len(epochs) for name, epochs in stages.items()},
        "seconds": {name: sum(e.seconds for e in epochs) for name, epochs in stages.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def in_batches(
    score: Callable[[Sequence[History]], Float32[np.ndarray, "_ items"]], cases: Cases
) -> Float32[np.ndarray, "cases items"]:
    """Scores of all cases, `BATCH` at a time."""
    return np.concatenate([score(cases.histories[start : start + BATCH]) for start in range(0, len(cases), BATCH)])


def parts_of(scorer: Scorer, cases: Cases) -> dict[str, Float32[np.ndarray, "cases items"]]:
    """Every part of the score by name, for all cases."""
    pieces = [scorer.parts(cases.histories[start : start + BATCH]) for start in range(0, len(cases), BATCH)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def join(
    scorer: Scorer, parts: Mapping[str, Float32[np.ndarray, "cases items"]], **changed: float
) -> Float32[np.ndarray, "cases items"]:
    """The parts joined with some weights changed; the scorer keeps its own."""
    kept = scorer.weights
    scorer.weights = replace(kept, **changed)
    joined = scorer.join(parts)
    scorer.weights = kept
    return joined


DECODER_ALONE = {"decoder": 1.0, "ease": 0.0, "markov": 0.0, "content": 0.0, "fresh": 0.0}
PRIOR_ALONE = {"decoder": 0.0, "content": 0.0, "fresh": 0.0}


# ---- tasks ------------------------------------------------------------------------------------


def model_job(job: Job, data: Data, out: Path, folder: Path) -> Result:
    """The recommender read out in every way; an ablation only by its scores."""
    catalog = data.catalog(job.tags, job.seed if job.shuffled else None)
    split = leave_one_out(catalog.interactions)
    recommender, facts = trained(catalog, split, job.recipe, folder)
    scorer, test = recommender.scorer, split.test
    rows = readings(scorer, split)
    if job.task == "model":
        rows["codes"] = evaluate(in_batches(lambda h: scorer.codes(h, BEAM), test), test, split.train)
        rows |= penalty_curve(scorer, split)
        if job.seed == 0:  # for the job that measures speed, and for whoever wants to use it
            shutil.rmtree(out / "model", ignore_errors=True)
            recommender.save(out / "model")
    return Result(rows, facts)


def readings(scorer: Scorer, split: Split) -> dict[str, Evaluation]:
    """Joined, the decoder alone, and joined without the prior, its weights fitted again."""
    parts = parts_of(scorer, split.test)
    bare = Scorer(scorer.model, scorer.catalogue, None, scorer.counts)
    bare.weights = fit_weights(bare, split.validation)
    scores = {
        "joined": scorer.join(parts),
        "decoder": parts["decoder"],
        "no prior": bare.join({name: parts[name] for name in ("decoder", "content")}),
    }
    return {name: evaluate(score, split.test, split.train) for name, score in scores.items()}


def penalty_curve(scorer: Scorer, split: Split) -> dict[str, Evaluation]:
    """Joined and alone, at each penalty, on test and on the validation cases on which one is chosen."""
    rows = {}
    for which, cases in (("test", split.test), ("validation", split.validation)):
        parts = parts_of(scorer, cases)
        for penalty in PENALTIES:
            for reading, weights in (("joined", {}), ("decoder", DECODER_ALONE)):
                scores = join(scorer, parts, **weights, popularity_penalty=penalty)
                rows[f"{which}, {reading}, penalty {penalty:g}"] = evaluate(scores, cases, split.train)
    return rows


def cold_job(job: Job, data: Data, _out: Path, folder: Path) -> Result:
    """A tenth of the items without any event: ranked among themselves and among all, and the warm ones."""
    catalog = data.catalog(job.tags, job.seed if job.shuffled else None)
    log = catalog.interactions
    split, cold = hold_out_items(log, COLD_SHARE, np.random.default_rng(job.seed))
    is_cold = np.isin(np.arange(log.num_items), cold)
    warm = leave_one_out(log.keep(~is_cold[log.items])).test  # same training events, same validation cases
    recommender, facts = trained(catalog, split, job.recipe, folder)
    scorer, test = recommender.scorer, split.test
    parts, ease = parts_of(scorer, test), RecencyEASE().fit(split)
    vectors = scorer.model.content_vectors(scorer.catalogue.tokens, scorer.catalogue.present).detach().numpy()
    length = np.array([len(tokens) for tokens in token_lists(catalog, recommender.reader)], np.float32)
    scores = {
        "joined": scorer.join(parts),
        "decoder": parts["decoder"],
        "prior of look-alikes": join(scorer, parts, **PRIOR_ALONE),
        "content-kNN, words": content_knn(catalog, recommender.reader, split).scores(test.histories),
        "content-kNN, fused": ContentKNN(vectors).fit(split).scores(test.histories),
        "EASE + recency": ease.scores(test.histories),
        "longest text first": np.tile(length, (len(test), 1)),
    }
    rows = {f"cold: {name}": evaluate(x, test, split.train, candidates=is_cold) for name, x in scores.items()}
    rows |= {f"all: {name}": evaluate(x, test, split.train) for name, x in scores.items()}
    warm_parts = parts_of(scorer, warm)
    warm_scores = {"joined": scorer.join(warm_parts), "decoder": warm_parts["decoder"]}
    warm_scores["EASE + recency"] = ease.scores(warm.histories)
    rows |= {f"warm: {name}": evaluate(x, warm, split.train) for name, x in warm_scores.items()}
    open_items = np.array([len(catalog.items) - len(np.unique(history.items)) for history in test.histories])
    chance = {"cold": min(10 / len(cold), 1.0), "all": float(np.minimum(10 / open_items, 1).mean())}
    return Result(rows, {**facts, "random": chance, "cold items": len(cold)})


def rankers_job(rankers: Sequence[Ranker], split: Split) -> Result:
    """Fit each and rank the test cases."""
    rows, facts = {}, {}
    for ranker in rankers:
        start = time.perf_counter()
        ranker.fit(split)
        facts[ranker.name] = {"seconds": time.perf_counter() - start, "chosen": getattr(ranker, "chosen", "")}
        rows[ranker.name] = evaluate(ranker, split.test, split.train)
    return Result(rows, facts)


def baseline_job(job: Job, data: Data, _out: Path, _folder: Path) -> Result:
    """The baselines without a network, which need no seed; or one with a network, until it stops improving."""
    sasrec, bpr = SASRecConfig(seed=job.seed), BPRConfig(seed=job.seed)
    if job.epochs is not None:
        sasrec, bpr = replace(sasrec, epochs=job.epochs), replace(bpr, epochs=job.epochs)
    rankers: dict[Task, list[Ranker]] = {
        "counting": [Popularity(), RecentPopularity(), ItemKNN(), Markov(), EASE(), RecencyEASE(), CooccurrencePrior()],
        "sasrec": [SASRec(sasrec)],
        "bpr": [BPRMF(bpr)],
    }
    return rankers_job(rankers[job.task], leave_one_out(data.catalog().interactions))


def global_time_job(job: Job, data: Data, _out: Path, folder: Path) -> Result:
    """Model and baselines when nothing is learnt from anybody's future."""
    catalog = data.catalog(job.tags)
    split = global_time(catalog.interactions)
    recommender, facts = trained(catalog, split, job.recipe, folder)
    parts = parts_of(recommender.scorer, split.test)
    scores = {"joined": recommender.scorer.join(parts), "decoder": parts["decoder"]}
    rows = {name: evaluate(x, split.test, split.train) for name, x in scores.items()}
    counting = rankers_job([Popularity(), RecentPopularity(), EASE(), RecencyEASE(), CooccurrencePrior()], split)
    return Result(rows | dict(counting.rows), {**facts, "train events": len(split.train), "cases": len(split.test)})


def speed_job(job: Job, data: Data, out: Path, folder: Path) -> Result:
    """Time and work of training, and time per request of the saved model; to be run alone."""
    if not (out / "model").is_dir():  # somebody has removed it
        model_job(replace(job, task="model"), data, out, folder)
    return Result(facts=measure_speed(data.catalog(), job.recipe, Recommender.load(out / "model"), data.quick))


TASKS: dict[Task, Callable[[Job, Data, Path, Path], Result]] = {
    "model": model_job,
    "ablation": model_job,
    "cold": cold_job,
    "counting": baseline_job,
    "bpr": baseline_job,
    "sasrec": baseline_job,
    "global time": global_time_job,
    "speed": speed_job,
}
