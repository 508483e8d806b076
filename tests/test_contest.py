"""The model beside its baselines: the same cases, the right columns, and no claim beyond the interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import TinyModel
from hypothesis import given
from hypothesis import strategies as st

from m6rec_mini.baselines import Popularity
from m6rec_mini.catalog import Catalog
from m6rec_mini.contest import Contest, Row, Trained, judge, judge_oracle, signed
from m6rec_mini.datasets.folder import load_folder
from m6rec_mini.datasets.world import WorldConfig, make_world
from m6rec_mini.evaluation import Evaluation, leave_one_out
from m6rec_mini.recommender import Recommender


def evaluation(name: str, ranks: list[int]) -> Evaluation:
    n = len(ranks)
    flags = np.zeros(n, bool)
    lists = np.tile(np.arange(10), (n, 1))
    return Evaluation(name, np.arange(n), np.array(ranks, np.int64), lists, flags, flags, np.ones(20, bool))


def contest(model: list[int], **baselines: list[int]) -> Contest:
    rows = [Row(evaluation(name, ranks), 1.0) for name, ranks in baselines.items()]
    return Contest(Row(evaluation("M6-Rec Mini", model), 1.0), rows)


def test_the_best_baseline_is_found_for_each_metric_by_itself() -> None:
    one = contest([1, 20, 20, 20], sharp=[1, 20, 20, 20], broad=[9, 9, 9, 9])
    assert (one.best("hr@10").name, one.best("ndcg@10").name) == ("broad", "broad")  # 4 / log2(10) = 1.20 against 1
    two = contest([1, 20, 20, 20], sharp=[1, 20, 20, 20], broad=[9, 9, 20, 20])
    assert (two.best("hr@10").name, two.best("ndcg@10").name) == ("broad", "sharp")
    assert two.differences["hr@10"].mean == pytest.approx(1 / 4 - 2 / 4)
    assert two.differences["ndcg@10"].mean == 0
    assert "HR@10 −0.250 [" in two.gaps
    assert "to broad; NDCG@10 +0.000 [+0.000, +0.000] to sharp" in two.gaps


@pytest.mark.parametrize(
    ("model", "other", "said"),
    [
        ([1] * 30 + [20] * 10, [20] * 40, "is more than chance"),
        ([20] * 40, [1] * 30 + [20] * 10, "is a loss beyond chance"),
        ([1] * 20 + [20] * 20, [20] * 20 + [1] * 20, "is within chance"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(model: list[int], other: list[int], said: str) -> None:
    verdict = contest(model, other=other).verdict
    assert said in verdict
    assert "of 40 users; the best baseline, other, for" in verdict


def test_the_verdict_has_the_numbers() -> None:
    verdict = contest([1, 1, 1, 20], other=[1, 20, 20, 20]).verdict
    assert "for 75.0% of 4 users; the best baseline, other, for 25.0%. The difference of +50.0 points" in verdict


@given(st.floats(-10, 10, allow_nan=False))
def test_signs_are_always_there(value: float) -> None:
    text = signed(value)
    assert text[0] in "+−"
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=5.1e-4)


def test_a_catalog_in_another_order_gets_the_same_scores(tiny_model: TinyModel) -> None:
    catalog, recommender = load_folder(tiny_model.data)[0], Recommender.load(tiny_model.model)
    moved = Catalog("moved", list(reversed(catalog.items)), catalog.events)
    one, other = (Trained(recommender, c).scores([c.interactions.history(0)])[0] for c in (catalog, moved))
    np.testing.assert_allclose(other[::-1], one, rtol=1e-5)
    assert np.ptp(one) > 0.1


def test_items_that_the_model_does_not_know_are_ranked_too(tiny_model: TinyModel) -> None:
    catalog, recommender = load_folder(tiny_model.data)[0], Recommender.load(tiny_model.model)
    more = Catalog("more", [replace(catalog.items[0], id="new"), *catalog.items], catalog.events)
    scores = Trained(recommender, more).scores([more.interactions.history(0)])
    assert scores.shape == (1, 101)
    assert np.isfinite(scores).all()


def test_judging_gives_the_harness_numbers_and_the_oracle_is_ahead(tiny_model: TinyModel) -> None:
    world = make_world(WorldConfig(items=100, users=24, mean_events=12.0))
    split = leave_one_out(world.catalog.interactions)
    row = judge(Popularity(), split, "a note")
    assert (row.name, row.note) == ("popularity", "a note")
    assert row.intervals["hr@10"].mean == row.evaluation.mean("hr@10") == row.summary["hr@10"]
    oracle = judge_oracle(world, split)
    assert oracle.name == "oracle"
    assert oracle.evaluation.mean("ndcg@10") > row.evaluation.mean("ndcg@10")
    both = Contest(row, [row], oracle)
    assert both.rows == [row, row, oracle]
