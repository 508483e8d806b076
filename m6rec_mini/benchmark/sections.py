"""The sections of RESULTS.md: each is one question, answered from what the jobs have saved.

Nothing is left out because it looks bad: rows that lose stand beside the rest. A section whose jobs
were not asked for is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from m6rec_mini.benchmark.jobs import BEAM, COLD_SHARE, PENALTIES
from m6rec_mini.benchmark.tables import (
    About,
    Picture,
    Results,
    Runs,
    Section,
    Table,
    difference,
    interval,
    mean,
    number,
    signed,
    spread,
)
from m6rec_mini.contest import MODEL
from m6rec_mini.evaluation import Interval, coverage, gini
from m6rec_mini.plots import Palette, Plot, dot_plot, render

KEEP = 0.85  # of overall HR@10, which the chosen popularity penalty must keep on validation
STAGES = ("encoders", "decoder", "writing")
METRICS = ("hr@10", "ndcg@10")


# ---- accuracy ---------------------------------------------------------------------------------


def accuracy_section(results: Results, about: About) -> Section | None:
    """How good is the list, against every opponent?"""
    rows = accuracy_rows(results)
    if MODEL not in rows or len(rows) < 4:  # only asked for because another part needs the model
        return None
    one = next(iter(rows[MODEL].values()))
    opponents = ("decoder, vectors", "prior: EASE + Markov", "EASE + recency", "SASRec")
    pairs = [
        [
            f"{MODEL} − {name}",
            *(signed(difference(rows[MODEL], rows[name], m, w)) for w in ("all", "untied") for m in METRICS),
        ]
        for name in opponents
        if name in rows
    ]
    return Section(
        f"Accuracy ({about.data}, leave-one-out)",
        [
            f"{len(one.ranks):,} test cases: {int(one.tail.sum())} for a tail item, {int(one.tied.sum())} tied. "
            "*Vectors*: the decoder's softmax over all items. *Semantic IDs*: the items that a beam of "
            f"{BEAM} writes. *Prior*: the part of the model that counts, without any network.",
            Table(ACCURACY_HEAD, [[_bold(name), *accuracy_cells(runs)] for name, runs in rows.items()]),
            _dots("accuracy", about.data, {name: interval(runs, "hr@10") for name, runs in rows.items()}),
            "Paired differences; bold where the interval leaves out zero.",
            Table(["", "HR@10", "NDCG@10", "HR@10, untied", "NDCG@10, untied"], pairs),
        ],
    )


ACCURACY_HEAD = (
    *("ranker", "HR@10", "NDCG@10", "MRR", "HR@50", "coverage@10", "Gini@10", "tail HR@10", "tail HR@50"),
    *("untied HR@10", "tied HR@10", "runs"),
)


def accuracy_rows(results: Results) -> dict[str, Runs]:
    """The rows of the table by the names that it gives them."""
    counting = {name: results.runs("counting", name) for name in results.rows("counting")}
    prior = counting.pop("EASE + Markov", {})
    rows = {
        MODEL: results.runs("model", "joined"),
        "decoder, vectors": results.runs("model", "decoder"),
        "decoder, semantic IDs": results.runs("model", "codes"),
        "prior: EASE + Markov": prior,
        "SASRec": results.runs("SASRec", "SASRec"),
        "BPR-MF": results.runs("BPR-MF", "BPR-MF"),
        **dict(reversed(counting.items())),
    }
    return {name: runs for name, runs in rows.items() if runs}


def accuracy_cells(runs: Runs) -> list[str]:
    """One row of the table of accuracy."""
    slices = (("hr@10", "tail"), ("hr@50", "tail"), ("hr@10", "untied"), ("hr@10", "tied"))
    return [
        *(spread(interval(runs, metric)) for metric in METRICS),
        *(number(mean(runs, metric)) for metric in ("mrr", "hr@50")),
        number(float(np.mean([coverage(e.item_counts) for e in runs.values()]))),
        number(float(np.mean([gini(e.item_counts) for e in runs.values()]))),
        *(number(mean(runs, metric, where)) for metric, where in slices),
        str(len(runs)),
    ]


def peers_section(results: Results, about: About) -> Section | None:
    """And against packages that a user would pick instead?"""
    model = results.runs("model", "joined")
    if not model:
        return None
    title = f"Packages a user would pick instead ({about.data}, leave-one-out)"
    names = [name for name in results.found if name.startswith("peer ")]
    if not names:
        return Section(title, ["Not run: `python benchmarks/peers.py --help` tells how."])
    rows = []
    for name in names:
        runs, facts = results.runs(name, "test"), results.facts(name)[0]
        cells = ["—"] * 6
        if runs:
            cells = [*(spread(interval(runs, m)) for m in METRICS), number(mean(runs, "hr@50", "tail"))]
            cells += [*(signed(difference(model, runs, m)) for m in METRICS)]
            cells.append(f"{np.mean([f['seconds'] for f in results.facts(name)]):.0f}")
        settings = "; ".join(dict.fromkeys(str(f["setting"]) for f in results.facts(name)))
        rows.append([name.removeprefix("peer "), *cells, str(len(runs)), settings, str(facts["versions"])])
    head = ["package", "HR@10", "NDCG@10", "tail HR@50", f"{MODEL} − it, HR@10", "NDCG@10", "fit, s", "runs"]
    text = (
        "Each ran in an environment of its own, on the same training events, and gave scores for the same histories. "
        "Ranks are taken here, by the same masks and the same rule for ties; the setting is chosen on validation."
    )
    return Section(title, [text, Table([*head, "setting", "versions"], rows)])


# ---- cold items -------------------------------------------------------------------------------


def cold_section(results: Results, about: About) -> Section | None:
    """What about items that nobody has touched?"""
    jobs = [name for name in results.found if name.startswith("cold, ")]
    if not jobs:
        return None
    main = "cold, with tags" if "cold, with tags" in jobs else "cold, everything"
    dots: dict[str, Interval | None] = {}
    names = [row.removeprefix("cold: ") for row in results.rows(main) if row.startswith("cold: ")]
    rows = []
    for job in jobs:
        content = job.removeprefix("cold, ")
        complete = job == main or content in ("everything", "shuffled")
        for name in names if complete else ["joined", "decoder"]:
            cells = [interval(results.runs(job, f"{pool}: {name}"), "hr@10") for pool in ("cold", "all", "warm")]
            rows.append([content, MODEL if name == "joined" else name, *map(spread, cells)])
            if name == "joined" or (job == main and name != "EASE + recency"):
                dots[f"{MODEL if name == 'joined' else name} ({content})"] = cells[0]
    facts = results.facts(main)
    chance = [number(float(np.mean([f["random"][pool] for f in facts]))) for pool in ("cold", "all")]
    rows.append(["any", "random order, expected", *chance, "—"])
    pairs = [
        [text, signed(difference(results.runs(a, f"cold: {x}"), results.runs(b, f"cold: {y}"), "hr@10"))]
        for text, (a, x), (b, y) in cold_pairs(main, jobs)
    ]
    return Section(
        f"Cold items ({about.data}, {COLD_SHARE:.0%} of the items without any training event)",
        [
            f"{facts[0]['cold items']} other items for each seed; every model is trained again without them. EASE "
            "knows events only: to it all cold items tie, so they come last. *Longest text first* shows what the "
            "length of a text gives away by itself. *Warm* is leave-one-out on the other items, same model.",
            Table(["content read", "ranker", "HR@10, cold only", "HR@10, among all", "HR@10, warm"], rows),
            _dots("cold", f"{about.data}, cold items among themselves", dots),
            "Paired differences; bold where the interval leaves out zero.",
            Table(["", "HR@10, cold only"], pairs),
        ],
    )


def cold_pairs(main: str, jobs: Sequence[str]) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
    """What is compared with what, as (words, (job, row), (job, row))."""
    pairs = [
        (f"{main.removeprefix('cold, ')}: {MODEL} − {knn}", (main, "joined"), (main, knn))
        for knn in ("content-kNN, words", "content-kNN, fused")
    ]
    for job in jobs:
        if job not in (main, "cold, everything"):
            text = f"{MODEL}: everything − {job.removeprefix('cold, ')}"
            pairs.append((text, ("cold, everything", "joined"), (job, "joined")))
    return pairs


# ---- ablations and tail -----------------------------------------------------------------------


def ablation_section(results: Results, about: About) -> Section | None:
    """What is each part worth?"""
    jobs = [name for name in results.found if name.startswith("ablation, ")]
    if not jobs:
        return None
    full = {name: results.runs("model", name) for name in ("joined", "decoder")}
    variants: dict[str, Mapping[str, Runs]] = {
        "full": full,
        "no prior": {"joined": results.runs("model", "no prior"), "decoder": {}},
        **{job.removeprefix("ablation, "): {x: results.runs(job, x) for x in full} for job in jobs},
    }
    rows = []
    for label, runs in variants.items():
        cells = []
        for name in full:
            gaps = [difference(runs[name], full[name], metric) if label != "full" else None for metric in METRICS]
            cells += [spread(interval(runs[name], "hr@10")), *map(signed, gaps)]
        rows.append([label, *cells])
    head = [f"{name}{column}" for name in full for column in (", HR@10", " − full, HR@10", " − full, NDCG@10")]
    return Section(
        f"Ablations ({about.data}, leave-one-out)",
        [
            "One change each, trained again, and the weights of the parts fitted again. *Shuffled*: pictures, sounds "
            "and features of other items, the text kept. *No identities*: content alone, as in the M6-Rec paper.",
            Table(["change", *head], rows),
        ],
    )


def tail_section(results: Results, about: About) -> Section | None:
    """What does the tail gain, and the rest pay, when popularity is taken off?"""
    curves = {reading: tail_curve(results, reading) for reading in ("joined", "decoder")}
    if not curves["joined"]:
        return None
    rows = []
    for reading, curve in curves.items():
        for penalty, cells in curve.items():
            mark = " (chosen)" if penalty == chosen_penalty(results, reading) else ""
            rows.append([f"{reading}, {penalty:g}{mark}", *map(number, cells)])
    return Section(
        f"The long tail ({about.data}, leave-one-out)",
        [
            "Penalty times log(1 + training events) is taken off each score. Chosen on validation: the best tail HR@10 "
            f"among the penalties that keep {KEEP:.0%} of overall HR@10.",
            Table(["reading, penalty", "HR@10", "tail HR@10", "tail HR@50", "coverage@10"], rows),
            Picture("tail", tail_plot(curves, about.data)),
        ],
    )


def tail_curve(results: Results, reading: str, which: str = "test") -> dict[float, list[float]]:
    """By penalty: overall HR@10, tail HR@10, tail HR@50, coverage."""
    curve = {}
    for penalty in PENALTIES:
        runs = results.runs("model", f"{which}, {reading}, penalty {penalty:g}")
        if runs:
            means = [mean(runs, "hr@10"), mean(runs, "hr@10", "tail"), mean(runs, "hr@50", "tail")]
            curve[penalty] = [*means, float(np.mean([coverage(e.item_counts) for e in runs.values()]))]
    return curve


def chosen_penalty(results: Results, reading: str) -> float:
    """By validation: best for the tail among those that keep most of the overall accuracy; the first of equals."""
    curve = tail_curve(results, reading, "validation")
    enough = [penalty for penalty, cells in curve.items() if cells[0] >= KEEP * curve[PENALTIES[0]][0]]
    return max(enough, key=lambda penalty: np.nan_to_num(curve[penalty][1]))


def tail_plot(curves: Mapping[str, Mapping[float, Sequence[float]]], data: str) -> Plot:
    """HR@10 of tail and of all cases by penalty, for both readings."""

    def draw(axes: Axes, palette: Palette) -> None:
        for (reading, curve), colour in zip(curves.items(), (palette.strong, palette.against), strict=True):
            for column, style, which in ((0, "-o", "all"), (1, "--s", "tail")):
                line = [cells[column] for cells in curve.values()]
                axes.plot(list(curve), line, style, color=colour, label=f"{reading}, {which}")
        axes.set(xlabel="popularity penalty", ylabel="HR@10", ylim=(0, None))
        axes.legend(fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))  # above, not on the lines

    ends = {reading: [list(curve.values())[end] for end in (0, -1)] for reading, curve in curves.items()}
    said = "; ".join(
        f"{reading}, all cases {a[0]:.3f} to {b[0]:.3f}, tail {a[1]:.3f} to {b[1]:.3f}"
        for reading, (a, b) in ends.items()
    )
    alt = f"HR@10 on {data} as the popularity penalty rises from {PENALTIES[0]:g} to {PENALTIES[-1]:g}: {said}."
    return render(draw, alt)


# ---- time -------------------------------------------------------------------------------------


def time_section(results: Results, about: About) -> Section | None:
    """How long does training take, and how long one request?"""
    if "speed" not in results.found or "model" not in results.found:
        return None
    speed, logs = results.facts("speed")[0], results.facts("model")
    rows = []
    for stage in STAGES:
        epochs, took = (np.array([log[key].get(stage, 0) for log in logs], float) for key in ("epochs", "seconds"))
        if took.sum() and stage in speed["flops"]:
            rate = speed["flops"][stage] * epochs.sum() / took.sum()
            work = [f"{speed['flops'][stage] / 1e9:.0f}", f"{rate / 1e9:.1f}", f"{rate / speed['peak']:.0%}"]
            rows.append([stage, f"{epochs.mean():.1f}", f"{took.mean():.0f}", *work])
    total = np.mean([sum(log["seconds"].values()) for log in logs])
    rows.append(["all stages", "—", f"{total:.0f}", "—", "—", "—"])
    for name in ("SASRec", "BPR-MF", "counting"):
        for row in results.rows(name):
            took = np.array([facts[row]["seconds"] for facts in results.facts(name)])
            rows.append([row, "—", f"{took.mean():.1f}", "—", "—", "—"])
    latency = [[*row[:3], f"{row[3]:.1f}", f"{row[4]:.1f}"] for row in speed["latency"]]
    return Section(
        f"Time ({about.data})",
        [
            f"{logs[0]['parameters']:,} parameters. One thread per job, two jobs at a time; means over seeds. "
            "Operations are those of matrix products and convolutions, validation included; utilisation is their rate "
            f"against {speed['peak'] / 1e9:.0f} GFLOP/s, which one large float32 product reached on one thread.",
            Table(["training", "epochs", "seconds", "GFLOP an epoch", "GFLOP/s", "utilisation"], rows),
            "Time per request for a list of ten, one user at a time, one thread, nothing else running. *New items* are "
            "candidates whose pictures and texts the model has never seen, encoded within the request.",
            Table(["ranker", "candidates", "reasons", "p50, ms", "p95, ms"], latency),
        ],
    )


def global_time_section(results: Results, about: About) -> Section | None:
    """What remains when nothing is learnt from anybody's future?"""
    names = results.rows("global time")
    if not names:
        return None
    facts, model = results.facts("global time")[0], results.runs("global time", "joined")
    rows = []
    for name in names:
        runs = results.runs("global time", name)
        cells = [*(spread(interval(runs, metric)) for metric in METRICS), number(mean(runs, "hr@10", "tail"))]
        gap = "—" if name == "joined" else signed(difference(model, runs, "hr@10"))
        rows.append([_bold(MODEL) if name == "joined" else name, *cells, gap])
    cases = next(iter(model.values()))
    return Section(
        f"Global time ({about.data}, one seed)",
        [
            f"All users are cut at the same two moments: {facts['train events']:,} events to learn from, then a tenth "
            f"for validation, then {facts['cases']:,} cases of {len(np.unique(cases.users)):,} users who had a past. "
            "Targets without any training event stay in.",
            Table(["ranker", "HR@10", "NDCG@10", "tail HR@10", f"{MODEL} − it, HR@10"], rows),
        ],
    )


# ---- helpers ----------------------------------------------------------------------------------


def _bold(name: str) -> str:
    return f"**{name}**" if name == MODEL else name


def _dots(name: str, where: str, rows: Mapping[str, Interval | None]) -> Picture:
    there = [(row, found) for row, found in rows.items() if found is not None]
    plot = dot_plot(there, "HR@10", [row for row in rows if row.startswith(MODEL)])
    return Picture(name, replace(plot, alt=f"{where}. {plot.alt}"))
