"""The embedded world keeps its promises: sizes, the laws of choice, and how users live."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import Float, Int64

from m6rec_mini.catalog import ACTIONS
from m6rec_mini.datasets.world import (
    DOMAIN,
    SESSION_GAP,
    START,
    WIDTHS,
    Truth,
    World,
    WorldConfig,
    desire,
    make_world,
    oracle_scores,
    taste,
)
from m6rec_mini.datasets.world_words import DOMAINS, TOPICS

SMALL = WorldConfig(items=200, users=100)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


@pytest.fixture(scope="module")
def small() -> World:
    return make_world(SMALL)


def fingerprint(world: World) -> str:
    """A digest of all that a model could see."""
    digest = hashlib.sha256()
    for item in world.catalog.items:
        digest.update(repr((item.id, item.domain, item.text, item.title, item.created_at)).encode())
        digest.update(b"" if item.image is None else item.image.tobytes())
        digest.update(b"" if item.audio is None else item.audio.wave.tobytes())
    digest.update(repr((world.catalog.events, world.catalog.friends)).encode())
    return digest.hexdigest()


# ---- the same again, and sizes ------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_and_another_seed_another_world(small: World) -> None:
    assert fingerprint(make_world(SMALL)) == fingerprint(small)
    assert fingerprint(make_world(replace(SMALL, seed=1))) != fingerprint(small)


def test_parts_draw_from_separate_streams(small: World) -> None:
    fewer = make_world(replace(SMALL, friends=1, missing=(0.0, 0.0, 0.5)))
    assert len(fewer.catalog.friends) < len(small.catalog.friends)
    assert fewer.catalog.events == small.catalog.events


def test_default_world_has_the_promised_size(world: World) -> None:
    catalog = world.catalog
    assert (catalog.name, len(catalog.items), len(catalog.users)) == ("world", 2000, 1000)
    assert "synthetic" in catalog.derived
    assert {item.domain for item in catalog.items} == set(DOMAINS)
    counts = np.diff(catalog.interactions.bounds)
    assert counts.min() >= 5
    assert 35 <= counts.mean() <= 45
    assert np.median(counts) < 0.8 * counts.mean()  # a few users do much, most do little


def test_truth_runs_as_the_catalog_does(small: World) -> None:
    catalog, truth = small.catalog, small.truth
    assert catalog.users == tuple(f"user-{n:05d}" for n in range(SMALL.users))
    assert [item.domain for item in catalog.items] == [DOMAINS[d] for d in truth.items.domain]
    assert [item.created_at for item in catalog.items] == truth.items.created_at.tolist()
    log = catalog.interactions
    tastes = taste(SMALL, truth.users, log.users, log.times)
    np.testing.assert_allclose(truth.affinity, (tastes * truth.items.factors[log.items]).sum(1))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"items": 99}, "items"),
        ({"users": 1}, "users"),
        ({"min_events": 0}, "min_events"),
        ({"mean_events": 5.0}, "min_events"),
        ({"days": 6}, "days"),
        ({"friends": 1000}, "friends"),
        ({"chinese": 1.5}, "chinese"),
        ({"missing": (0.1, 1.0, 0.1)}, "missing"),
    ],
)
def test_senseless_configs_are_refused_by_name(change: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} of the world"):
        replace(WorldConfig(), **change)  # type: ignore[arg-type]


def test_smallest_world_works() -> None:
    tiny = make_world(WorldConfig(items=100, users=2, days=7, friends=1, late=0.9))
    assert np.diff(tiny.catalog.interactions.bounds).min() >= 5


# ---- the log ------------------------------------------------------------------------------------


def test_log_is_in_order_and_a_user_never_does_two_things_at_once(world: World) -> None:
    times = [event.timestamp for event in world.catalog.events]
    assert times == sorted(times)
    log = world.catalog.interactions
    same_user = np.diff(log.users) == 0
    assert (np.diff(log.times)[same_user] > 0).all()
    assert log.times.min() >= START
    assert log.times.max() < world.truth.config.end


def test_sessions_are_what_the_gap_says(world: World) -> None:
    log = world.catalog.interactions
    same_user, same_session = np.diff(log.users) == 0, np.diff(world.truth.session) == 0
    assert (same_session == (same_user & (np.diff(log.times) < SESSION_GAP))).all()
    topics = world.truth.session_topic
    assert (topics[1:] == topics[:-1])[same_session].all()


def test_nothing_is_met_before_it_exists_or_twice(world: World) -> None:
    log, created_at = world.catalog.interactions, world.truth.items.created_at
    assert (log.times >= created_at[log.items]).all()
    assert len(np.unique(log.users * log.num_items + log.items)) == len(log)
    assert 0.25 <= (created_at > START).mean() <= 0.35


def test_popularity_follows_zipf_with_a_long_tail(world: World) -> None:
    counts = np.sort(world.catalog.interactions.item_counts)[::-1]
    ranks = np.arange(10, 1000)
    fit = np.corrcoef(np.log(ranks), np.log(counts[ranks]))[0, 1]
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks]), 1)[0]
    assert -1.2 <= slope <= -0.6
    assert fit < -0.98
    assert 0.3 <= (counts <= 10).mean() <= 0.5
    assert counts[:200].sum() > 0.4 * counts.sum()


def test_likes_and_comments_follow_affinity(world: World) -> None:
    actions, affinity = world.catalog.interactions.actions, world.truth.affinity
    shares = np.bincount(actions) / len(actions)
    assert shares[0] > 0.6
    assert shares.min() > 0.04
    view, like, comment = (affinity[actions == ACTIONS.index(action)].mean() for action in ACTIONS)
    assert like > view + 0.3 * affinity.std()
    assert comment > view + 0.2 * affinity.std()


def test_comments_speak_of_the_topic_in_the_language_of_the_item(world: World) -> None:
    truth = world.truth.items
    comments = [event for event in world.catalog.events if event.action == "comment"]
    assert all(event.comment for event in comments)
    for event in comments[:300]:
        item = world.catalog.item_index[event.item]
        topic, chinese = TOPICS[truth.topic[item]], bool(truth.chinese[item])
        words = topic.chinese if chinese else topic.english
        assert any(word.lower() in (event.comment or "").lower() for word in words)


# ---- choice -------------------------------------------------------------------------------------


def hit_rate(scores: Float[np.ndarray, "users items"], targets: Int64[np.ndarray, " users"]) -> float:
    """HR@10; ties count against the target."""
    own = scores[np.arange(len(targets)), targets]
    return float(((scores >= own[:, None]).sum(1) <= 10).mean())


def oracle_hit_rate(world: World, truth: Truth, users: Int64[np.ndarray, " users"]) -> float:
    log = world.catalog.interactions
    last = log.bounds[1:][users] - 1
    scores = [oracle_scores(truth, world.catalog, int(u), int(log.times[e])) for u, e in zip(users, last, strict=True)]
    return hit_rate(np.stack(scores), log.items[last])


def test_oracle_gives_the_very_probability_of_each_choice_within_a_session(small: World) -> None:
    log, truth = small.catalog.interactions, small.truth
    inside = 1 + np.flatnonzero(np.diff(truth.session) == 0)[::10]
    assert len(inside) > 100
    for event in inside:
        scores = oracle_scores(truth, small.catalog, int(log.users[event]), int(log.times[event]))
        assert np.exp(scores).sum() == pytest.approx(1)
        assert np.exp(scores[log.items[event]]) == pytest.approx(truth.probability[event])


def test_oracle_averages_over_topics_when_a_session_begins(small: World) -> None:
    """Worked without the oracle's code: one softmax for each topic, weighted by interest."""
    log, truth, config = small.catalog.interactions, small.truth, small.truth.config
    event = 1 + int(np.flatnonzero((np.diff(truth.session) > 0) & (np.diff(log.users) == 0))[7])
    user, time = int(log.users[event]), int(log.times[event])
    share = (time - START) / (config.end - START)
    interests = (1 - share) * truth.users.interests[0, user] + share * truth.users.interests[1, user]
    open_to = truth.items.created_at <= time
    open_to[log.items[log.bounds[user] : event]] = False
    expected = np.zeros(SMALL.items)
    for topic in np.flatnonzero(interests):
        pull = config.pull
        logits = truth.items.popularity + pull.interest * (
            interests[truth.items.topic] + 0.5 * interests[truth.items.minor]
        )
        logits += pull.session * ((truth.items.topic == topic) + 0.5 * (truth.items.minor == topic))
        logits += pull.look * truth.users.looks[user, truth.items.look]
        logits += pull.mood * truth.users.moods[user, truth.items.mood]
        logits += pull.domain * truth.users.domains[user, truth.items.domain]
        odds = np.exp(logits) * open_to
        expected += interests[topic] * odds / odds.sum()
    np.testing.assert_allclose(np.exp(oracle_scores(truth, small.catalog, user, time)), expected, atol=1e-12)


def test_choices_are_draws_from_their_probabilities(world: World) -> None:
    """Of a true draw, the expected probability of what was drawn is the sum of squares."""
    log, truth = world.catalog.interactions, world.truth
    events = 1 + np.flatnonzero(np.diff(truth.session) == 0)[::60]
    surplus = []
    for event in events:
        chances = np.exp(oracle_scores(truth, world.catalog, int(log.users[event]), int(log.times[event])))
        surplus.append(chances[log.items[event]] - (chances**2).sum())
    assert abs(np.mean(surplus)) < 4 * np.std(surplus) / np.sqrt(len(surplus))


def test_what_is_met_or_not_yet_there_cannot_be_chosen(small: World) -> None:
    log, truth = small.catalog.interactions, small.truth
    time = START + 90 * 86_400
    scores = oracle_scores(truth, small.catalog, 3, time)
    mine = slice(log.bounds[3], log.bounds[4])
    met = log.items[mine][log.times[mine] < time]
    impossible = np.union1d(met, np.flatnonzero(truth.items.created_at > time))
    np.testing.assert_array_equal(np.flatnonzero(np.isneginf(scores)), impossible)


def test_truth_beats_co_occurrence_beats_popularity(world: World, oracle: float) -> None:
    log = world.catalog.interactions
    last = log.bounds[1:] - 1
    train = np.delete(np.arange(len(log)), last)
    seen = np.zeros((1000, 2000))
    seen[log.users[train], log.items[train]] = 1
    inverse = np.linalg.inv(seen.T @ seen + 100 * np.eye(2000))
    weights = inverse / -np.diag(inverse)  # EASE (Steck 2019)
    np.fill_diagonal(weights, 0)
    popularity = hit_rate(np.where(seen > 0, -np.inf, seen.sum(0)), log.items[last])
    ease = hit_rate(np.where(seen > 0, -np.inf, seen @ weights), log.items[last])
    assert ease > 1.5 * popularity
    assert oracle > 4 * popularity
    assert oracle > 2 * ease  # room that only content can fill


@pytest.fixture(scope="module")
def oracle(world: World) -> float:
    return oracle_hit_rate(world, world.truth, np.arange(0, 1000, 3))


@pytest.mark.parametrize("part", ["popularity", "interest", "look", "mood", "session"])
def test_an_oracle_blind_to_one_part_is_worse(world: World, oracle: float, part: str) -> None:
    truth, users = world.truth, np.arange(0, 1000, 3)
    if part == "popularity":
        blind = replace(truth, items=replace(truth.items, popularity=np.zeros(2000)))
    else:
        blind = replace(truth, config=replace(truth.config, pull=replace(truth.config.pull, **{part: 0.0})))
    assert oracle_hit_rate(world, blind, users) < oracle - 0.02


def test_desire_adds_the_moment_to_taste(small: World) -> None:
    items, pull = small.truth.items, SMALL.pull
    nothing = np.zeros((2, sum(WIDTHS)))
    wanted = desire(SMALL, items, nothing, np.array([4, 4]), np.array([-1, 9]))
    assert wanted[0, 4] == pull.session
    assert np.count_nonzero(wanted[0]) == 1
    assert wanted[1, DOMAIN][items.domain[9]] == pull.last
    assert not nothing.any()  # the input is left alone


# ---- users --------------------------------------------------------------------------------------


def test_interests_are_shares_of_two_to_four_topics_and_one_is_exchanged(world: World) -> None:
    first, final = world.truth.users.interests
    np.testing.assert_allclose(world.truth.users.interests.sum(2), 1)
    assert set((first > 0).sum(1)) == {2, 3, 4}
    assert (((first > 0) & (final > 0)).sum(1) == (first > 0).sum(1) - 1).all()


def test_interests_drift_in_what_users_do(world: World) -> None:
    log, topics = world.catalog.interactions, world.truth.items.topic
    first, final = world.truth.users.interests
    fresh = ((first == 0) & (final > 0)).argmax(1)
    on_fresh = topics[log.items] == fresh[log.users]
    third = (world.truth.config.end - START) / 3
    early, late = log.times < START + third, log.times > world.truth.config.end - third
    assert on_fresh[late].mean() > 2 * on_fresh[early].mean()


def test_order_matters_within_a_session(world: World) -> None:
    log, topics = world.catalog.interactions, world.truth.items.topic
    same_topic = topics[log.items[1:]] == topics[log.items[:-1]]
    same_user, same_session = np.diff(log.users) == 0, np.diff(world.truth.session) == 0
    inside, across = same_topic[same_session].mean(), same_topic[same_user & ~same_session].mean()
    assert inside > 1.5 * across
    assert across > 2 * same_topic[~same_user].mean()


def test_friends_are_alike(world: World) -> None:
    pairs = np.array([[world.catalog.user_index[u] for u in pair] for pair in world.catalog.friends])
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert np.bincount(pairs.ravel(), minlength=1000).min() >= world.truth.config.friends
    interests = world.truth.users.interests[0]
    strangers = np.random.default_rng(0).permutation(pairs[:, 1])
    shared = (interests[pairs[:, 0]] * interests[pairs[:, 1]]).sum(1).mean()
    assert shared > 3 * (interests[pairs[:, 0]] * interests[strangers]).sum(1).mean()
    log = world.catalog.interactions
    met = np.zeros((1000, 2000))
    met[log.users, log.items] = 1
    together = (met[pairs[:, 0]] * met[pairs[:, 1]]).sum(1).mean()
    assert together > 1.3 * (met[pairs[:, 0]] * met[strangers]).sum(1).mean()
