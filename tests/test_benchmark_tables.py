"""What the benchmark makes of its files: numbers, choices, sections; content-kNN and the measuring of speed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_builders import WORLD, about, console, ranked

from m6rec_mini.benchmark.aims import aims_section
from m6rec_mini.benchmark.jobs import PENALTIES, Data, Result
from m6rec_mini.benchmark.knn import content_knn, tf_idf
from m6rec_mini.benchmark.report import make_sections
from m6rec_mini.benchmark.sections import accuracy_section, chosen_penalty, cold_section
from m6rec_mini.benchmark.speed import Operations, percentiles
from m6rec_mini.benchmark.tables import (
    Results,
    Section,
    Table,
    by_user,
    difference,
    interval,
    mean,
    number,
    signed,
    spread,
)
from m6rec_mini.catalog import Catalog, Event, Item
from m6rec_mini.content import ContentConfig, ContentReader
from m6rec_mini.evaluation import Evaluation, Interval, evaluate, leave_one_out

# ---- numbers ----------------------------------------------------------------------------------


def test_a_user_counts_once_however_many_cases_and_seeds() -> None:
    runs = {0: ranked([1, 99, 1], users=[7, 7, 8]), 1: ranked([99, 99, 1], users=[7, 7, 8])}
    np.testing.assert_allclose(by_user(runs, "hr@10"), [0.25, 1.0])
    assert mean(runs, "hr@10") == 0.625


def test_slices_take_their_cases() -> None:
    runs = {0: ranked([1, 99, 1, 99], tail=[True, True, False, False], tied=[True, False, False, True])}
    assert [mean(runs, "hr@10", where) for where in ("all", "tail", "tied", "untied")] == [0.5, 0.5, 0.5, 0.5]
    runs = {0: ranked([1, 99, 99, 99], tail=[True, False, False, False])}
    assert mean(runs, "hr@10", "tail") == 1
    assert np.isnan(mean(runs, "hr@10", "tied"))
    assert interval(runs, "hr@10", "tied") is None


def test_what_needs_no_seed_stands_for_every_seed() -> None:
    model = {0: ranked([1, 1, 1, 99]), 1: ranked([1, 1, 99, 99])}
    gap = difference(model, {0: ranked([99, 99, 99, 99])}, "hr@10")
    assert gap is not None
    assert gap.mean == pytest.approx(0.625)


def test_only_seeds_with_the_same_users_are_compared() -> None:
    a = {0: ranked([1, 1], users=[0, 1]), 1: ranked([99, 99], users=[0, 2])}
    b = {0: ranked([99, 99], users=[0, 1]), 2: ranked([1, 1], users=[0, 1])}
    gap = difference(a, b, "hr@10")
    assert gap is not None
    assert gap.mean == 1
    assert difference(a, {3: ranked([1], users=[5])}, "hr@10") is None
    assert difference(a, {}, "hr@10") is None


def test_numbers_read_as_they_should() -> None:
    assert number(0.1234) == "0.123"
    assert number(float("nan")) == "—"
    assert spread(Interval(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert signed(Interval(0.1, -0.05, 0.2)) == "+0.100 [-0.050, +0.200]"
    assert signed(Interval(-0.1, -0.2, -0.05)) == "**-0.100 [-0.200, -0.050]**"
    assert spread(None) == signed(None) == "—"


def test_a_table_is_markdown_and_a_terminal_table() -> None:
    table = Table(["a", "b"], [["**x**", "1"]])
    assert table.markdown() == "| a | b |\n| --- | ---: |\n| **x** | 1 |"
    out = console()
    Section("Title", ["some *text*", table]).show(out)
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "Title" in shown
    assert "some text" in shown
    assert "*" not in shown


# ---- what is chosen, and what is compared -----------------------------------------------------


def penalties(overall: dict[float, int], tail: dict[float, int], which: str) -> dict[str, Evaluation]:
    """Of 20 cases, of which 10 are tail, so many hits at each penalty."""
    rows = {}
    for penalty in PENALTIES:
        hits, tail_hits = overall.get(penalty, 0), tail.get(penalty, 0)
        ranks = [1] * tail_hits + [99] * (10 - tail_hits) + [1] * (hits - tail_hits) + [99] * (10 - hits + tail_hits)
        rows[f"{which}, joined, penalty {penalty:g}"] = ranked(ranks, tail=[True] * 10 + [False] * 10)
    return rows


def test_the_penalty_is_chosen_on_validation_and_must_keep_most_of_the_accuracy() -> None:
    validation = penalties(
        {0: 10, 0.1: 10, 0.2: 9, 0.3: 8, 0.5: 10}, {0: 1, 0.1: 2, 0.2: 4, 0.3: 8, 0.5: 3}, "validation"
    )
    test = penalties({0: 10, 1: 10}, {0: 1, 1: 9}, "test")
    results = Results({"model": {0: Result({**validation, **test})}})
    assert chosen_penalty(results, "joined") == 0.2


def test_cold_items_compare_the_tagged_model_with_knn_and_the_untagged_with_its_controls() -> None:
    def job(hits: int) -> dict[int, Result]:
        rows = {f"{pool}: {name}": ranked([1] * hits + [99] * (8 - hits)) for pool in ("cold", "all")
                for name in ("joined", "decoder", "content-kNN, words", "content-kNN, fused")}  # fmt: skip
        return {0: Result(rows, {"random": {"cold": 0.25, "all": 0.01}, "cold items": 40})}

    names = ("cold, with tags", "cold, text", "cold, everything", "cold, shuffled")
    found = {name: job(hits) for name, hits in zip(names, (6, 2, 5, 1), strict=True)}
    section = cold_section(Results(found), about())
    assert section is not None
    table, pairs = [part for part in section.body if isinstance(part, Table)]
    assert [row[0] for row in pairs.rows] == [
        "with tags: M6-Rec Mini − content-kNN, words",
        "with tags: M6-Rec Mini − content-kNN, fused",
        "M6-Rec Mini: everything − text",
        "M6-Rec Mini: everything − shuffled",
    ]
    assert [row[1].replace("*", "")[:6] for row in pairs.rows] == ["+0.000", "+0.000", "+0.375", "+0.500"]
    assert table.rows[-1] == ["any", "random order, expected", "0.250", "0.010", "—"]


def test_losing_rows_and_missed_aims_are_shown() -> None:
    best, worst = ranked([1] * 8), ranked([99] * 8)
    rows = {"joined": worst, "decoder": worst, "codes": worst, "no prior": worst}
    found = {
        "model": {0: Result(rows, {"seconds": {"decoder": 3000.0}})},
        "counting": {0: Result({"popularity": best, "EASE + recency": best, "EASE + Markov": best})},
    }
    accuracy = accuracy_section(Results(found), about())
    aims = aims_section(Results(found), about(trimodal=True))
    assert accuracy is not None
    assert aims is not None
    text = accuracy.markdown()
    assert "| **M6-Rec Mini** | 0.000 [0.000, 0.000]" in text
    assert "| popularity | 1.000 [1.000, 1.000]" in text
    assert "| M6-Rec Mini − EASE + recency | **-1.000 [-1.000, -1.000]**" in text
    assert "| HR@10 ≥ 0.21 | 0.000 | **missed** |" in aims.markdown()
    assert "| M6-Rec Mini above EASE + recency | **-1.000 [-1.000, -1.000]** | **missed** |" in aims.markdown()
    assert "| Training at most 20 minutes, one thread | 50.0 at most | **missed** |" in aims.markdown()
    assert "| HR@10 of cold items, with tags ≥ 0.43 | — | not measured |" in aims.markdown()


def test_aims_are_named_for_one_data_set_only() -> None:
    assert aims_section(Results({}), about()) is None


def test_without_results_there_are_no_sections_and_failures_are_told() -> None:
    assert make_sections(Results({}), about()) == []
    failed = replace(about(), failed=["SASRec, seed 1: out of memory"])
    assert (
        make_sections(Results({}), failed)[-1].markdown() == "## What did not finish\n\n- SASRec, seed 1: out of memory"
    )


# ---- content-kNN and speed --------------------------------------------------------------------


def test_tf_idf_by_hand() -> None:
    seen = np.array([True, True, False])
    found = tf_idf([[0, 0, 1], [1], [0, 2]], 3, seen)
    # of the 2 seen items one has token 0, both have token 1, none has token 2: idf log(3/2), 0, log(3)
    np.testing.assert_allclose(found[0], [1, 0, 0])
    np.testing.assert_allclose(found[1], [0, 0, 0])
    rare = np.array([np.log(1.5), np.log(3)])
    np.testing.assert_allclose(found[2], [rare[0] / np.linalg.norm(rare), 0, rare[1] / np.linalg.norm(rare)])


def test_content_knn_finds_the_look_alike_by_words_and_by_features() -> None:
    kinds = ["red space war", "red space war", "blue love song", "blue love song"] * 5
    looks = [np.array([1, 0] if "red" in kind else [0, 1], np.float32) for kind in kinds]
    items = [
        Item(str(n), text=kind, features={"look": look})
        for n, (kind, look) in enumerate(zip(kinds, looks, strict=True))
    ]
    red, blue = ([str(n) for n, kind in enumerate(kinds) if colour in kind] for colour in ("red", "blue"))
    events = [
        Event(f"{user}", item, "view", t) for user, films in enumerate((red, blue)) for t, item in enumerate(films[:6])
    ]
    catalog = Catalog("colours", items, events)
    split = leave_one_out(catalog.interactions)
    knn = content_knn(catalog, ContentReader.fit(items, ContentConfig()), split)
    first = evaluate(knn, split.test, split.train, k=4).lists
    assert [{kinds[item] for item in row} for row in first] == [{"red space war"}, {"blue love song"}]


def test_operations_are_counted_forwards_and_backwards() -> None:
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    with Operations() as counter:
        (a @ b).sum().backward()
    assert counter.total == 3 * (2 * 3 * 4 * 5)  # the product, and one more for each of its sides
    torch.testing.assert_close(a.grad, b.detach().sum(1).expand(3, 4))


def test_percentiles_are_milliseconds_and_the_first_call_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.001, 0.0, 0.003])
    monkeypatch.setattr("m6rec_mini.benchmark.speed.time.perf_counter", lambda: next(times))
    calls: list[int] = []
    assert percentiles([lambda: calls.append(0), lambda: calls.append(1)]) == pytest.approx((2.0, 2.9))
    assert calls == [0, 0, 1]


def test_other_packages_have_their_table_and_failures_their_reason() -> None:
    def peer(rows: dict[str, Evaluation], **facts: object) -> dict[int, Result]:
        return {0: Result(rows, {"versions": "lib 1.0", "setting": "factors 8", "seconds": 2.0, **facts})}

    found = {
        "model": {0: Result({"joined": ranked([1, 1, 1, 1])})},
        "peer lib ALS": peer({"test": ranked([1, 99, 99, 99])}),
        "peer lib NEW": peer({}, setting="failed: no wheel"),
    }
    text = "\n".join(section.markdown() for section in make_sections(Results(found), about()))
    assert "| lib ALS | 0.250 [0.000, 0.750] |" in text
    assert "**+0.750 [" in text
    assert "| lib NEW | — | — | — | — | — | — | 0 | failed: no wheel | lib 1.0 |" in text


def test_results_of_other_packages_count_for_their_own_data_only(tmp_path: Path) -> None:
    facts = {"name": "lib ALS", "seed": 2, "data": ["world", True]}
    Result({"test": ranked([1])}, facts).save(tmp_path / "jobs" / "peer-lib-als-2.npz")
    assert list(Results.load([], WORLD, tmp_path).runs("peer lib ALS", "test")) == [2]
    assert Results.load([], Data("movielens"), tmp_path).found == {}
    assert json.dumps(facts)
