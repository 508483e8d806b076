"""The embedded open-domain world: a small synthetic universe whose truth is known.

Several domains share one set of topics. An item has a topic, a *look* and a *mood*; its text,
picture and sound are made from one of them each, so no modality tells the whole truth. Users
have several interests, favourite looks and moods, and friends like themselves; their interests
drift. A user's next item is drawn from a softmax (Luce's choice axiom, 1959) over

    log popularity (Zipf)  +  taste at that time  +  topic of the session  +  closeness to the last item

among the items that exist by then and that the user has not met. `Truth` keeps all that a model
must find out for itself; tests read it, models never do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int64

from m6rec_mini.catalog import RAW_MODALITIES, Catalog, Event, Item, Sound
from m6rec_mini.datasets.world_media import LOOKS, MOODS, RATE, paint, play, write_comment, write_text
from m6rec_mini.datasets.world_words import DOMAINS, TOPICS

DAY = 86_400
START = 1_704_067_200  # 2024-01-01 UTC
SESSION_GAP = 3 * 3600  # a longer silence starts a new session
WIDTHS = (len(TOPICS), len(LOOKS), len(MOODS), len(DOMAINS))  # blocks of a factor vector
TOPIC, LOOK, MOOD, DOMAIN = (slice(sum(WIDTHS[:k]), sum(WIDTHS[: k + 1])) for k in range(4))
MINOR_SHARE = 0.5  # how much an item's second topic counts


@dataclass(frozen=True)
class Pull:
    """How strongly each part pulls at a choice, in units of log odds."""

    popularity: float = 1.2  # exponent of Zipf's law; what comes out is flatter, as nothing is met twice
    interest: float = 4.5  # a topic that fills the whole of a user's interest
    look: float = 2.4  # a favourite look
    mood: float = 2.4
    domain: float = 0.7
    session: float = 4.0  # the topic of this session
    last: float = 0.7  # each factor shared with the item before, within a session


@dataclass(frozen=True)
class WorldConfig:
    """Size and nature of the world. Raises ValueError where a number makes no sense."""

    items: int = 2000
    users: int = 1000
    seed: int = 0
    mean_events: float = 40.0  # a user; the distribution has a long tail
    min_events: int = 5
    days: int = 180
    late: float = 0.3  # share of items that appear after the first day
    chinese: float = 0.3  # share of items with Chinese text
    missing: tuple[float, float, float] = (0.10, 0.15, 0.20)  # share of items without text, image, audio
    friends: int = 3  # friendships that each user starts
    pull: Pull = field(default_factory=Pull)

    def __post_init__(self) -> None:
        shares = {"late": (self.late,), "chinese": (self.chinese,), "missing": self.missing}
        rules = {
            "items": (self.items >= 20 * self.min_events, "at least 20 times min_events: nothing is met twice"),
            "users": (self.users >= 2, "at least 2"),
            "min_events": (1 <= self.min_events < self.mean_events, "at least 1, and below mean_events"),
            "days": (self.days >= max(7, self.min_events), "at least 7, and not fewer than min_events"),
            "friends": (0 < self.friends < self.users, "at least 1, and fewer than users"),
            **{name: (all(0 <= share < 1 for share in value), "0 or more, below 1") for name, value in shares.items()},
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} of the world is {getattr(self, name)}; it must be {rule}")

    @property
    def end(self) -> int:
        """When the log ends, in seconds since 1970."""
        return START + self.days * DAY


@dataclass(frozen=True, eq=False)
class ItemTruth:
    """What the items really are, in the order of the catalog; all but the last three are indices."""

    topic: Int64[np.ndarray, " items"]
    minor: Int64[np.ndarray, " items"]
    look: Int64[np.ndarray, " items"]
    mood: Int64[np.ndarray, " items"]
    domain: Int64[np.ndarray, " items"]
    chinese: Bool[np.ndarray, " items"]
    quality: Float[np.ndarray, " items"]  # standard normal; the popular ones tend to be good
    popularity: Float[np.ndarray, " items"]  # log weight
    created_at: Int64[np.ndarray, " items"]

    @property
    def factors(self) -> Float[np.ndarray, "items factors"]:
        """Topic (main 1, minor less), look, mood and domain, side by side as in `WIDTHS`."""
        parts = zip(WIDTHS, (self.topic, self.look, self.mood, self.domain), strict=True)
        factors: Float[np.ndarray, "items factors"] = np.hstack([np.eye(width)[index] for width, index in parts])
        factors[:, TOPIC] += MINOR_SHARE * np.eye(len(TOPICS))[self.minor]
        return factors


@dataclass(frozen=True, eq=False)
class UserTruth:
    """What the users really want, in the order of the catalog."""

    interests: Float[np.ndarray, "2 users topics"]  # shares, at the start and at the end of the log
    looks: Float[np.ndarray, "users looks"]  # about 1 for a favourite, about 0 for the rest
    moods: Float[np.ndarray, "users moods"]
    domains: Float[np.ndarray, "users domains"]

    def interests_at(
        self, users: Int64[np.ndarray, " rows"], progress: Float[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows topics"]:
        """Shares of interest when `progress` (0 to 1) of the log has passed: they drift in a straight line."""
        first, final = self.interests[:, users]
        return np.asarray(first + (final - first) * progress[:, None])


@dataclass(frozen=True, eq=False)
class Truth:
    """What is behind the events. Arrays over events run as in `Catalog.interactions`."""

    config: WorldConfig
    items: ItemTruth
    users: UserTruth
    session: Int64[np.ndarray, " events"]  # number of the session, rising with time within a user
    session_topic: Int64[np.ndarray, " events"]
    affinity: Float[np.ndarray, " events"]  # taste for the item at that time; no session, no popularity
    probability: Float[np.ndarray, " events"]  # of the choice, to somebody who knows everything


@dataclass(frozen=True, eq=False)
class World:
    """A catalog for models, and the truth for tests."""

    catalog: Catalog
    truth: Truth


def make_world(config: WorldConfig | None = None) -> World:
    """Make the world of this config; the same config gives the same world, to the byte."""
    config = config or WorldConfig()
    of_items, of_users, of_times, of_choices, of_media, of_actions = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(6)
    )  # separate streams, so that a change in one part leaves the others as they were
    items, users = _draw_items(config, of_items), _draw_users(config, of_users)
    plan = _plan_visits(config, users, of_times)
    chosen, probability = _choose(config, items, users, plan, of_choices)
    tastes = taste(config, users, plan.users, plan.times)
    affinity = np.einsum("ef,ef->e", tastes, items.factors[chosen])
    truth = Truth(config, items, users, plan.session, plan.session_topic, affinity, probability)
    catalog = Catalog(
        name="world",
        items=_render(config, items, of_media),
        events=_act(truth, plan, chosen, of_actions),
        friends=_befriend(config, users, of_users),
        derived="a synthetic world: items, users and all that they do are drawn from a known model",
    )
    return World(catalog, truth)


def oracle_scores(truth: Truth, catalog: Catalog, user: int, time: int) -> Float[np.ndarray, " items"]:
    """Log probability of the user's next item at `time`, by the truth and all that happened before.

    The best that any recommender can do: tastes and the topic of a running session are known;
    that of a new session is not, so its topics are averaged. Items met before, or not yet there,
    get -inf.
    """
    log, config, items = catalog.interactions, truth.config, truth.items
    first, stop = int(log.bounds[user]), int(log.bounds[user + 1])
    now = first + int(np.searchsorted(log.times[first:stop], time))  # events before `time`
    running = now > first and time - log.times[now - 1] < SESSION_GAP
    interests = truth.users.interests_at(np.array([user]), _progress(config, time))[0]
    topics = truth.session_topic[now - 1 : now] if running else np.flatnonzero(interests)
    weights = np.ones(1) if running else interests[topics]
    previous = np.full(len(topics), log.items[now - 1] if running else -1)
    rows = np.full(len(topics), user), np.full(len(topics), time)
    logits = desire(config, items, taste(config, truth.users, *rows), topics, previous) @ items.factors.T
    odds = np.exp(logits + items.popularity) * (items.created_at <= time)
    odds[:, log.items[first:now]] = 0
    chances = weights @ (odds / odds.sum(1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chances))


def taste(
    config: WorldConfig, truth: UserTruth, users: Int64[np.ndarray, " rows"], times: Int64[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows factors"]:
    """What the users want at these times, as log odds for each factor of an item."""
    pull, interests = config.pull, truth.interests_at(users, _progress(config, times))
    lasting = (pull.look * truth.looks[users], pull.mood * truth.moods[users], pull.domain * truth.domains[users])
    return np.hstack([pull.interest * interests, *lasting])


def desire(
    config: WorldConfig,
    items: ItemTruth,
    tastes: Float[np.ndarray, "rows factors"],
    session_topic: Int64[np.ndarray, " rows"],
    previous: Int64[np.ndarray, " rows"],
) -> Float[np.ndarray, "rows factors"]:
    """Taste plus the moment: the topic of the session, and the item before (-1: a session begins)."""
    wanted = tastes.copy()
    wanted[np.arange(len(wanted)), session_topic] += config.pull.session
    inside = previous >= 0
    wanted[inside] += config.pull.last * items.factors[previous[inside]]
    return wanted


# ---- items and users ----------------------------------------------------------------------------


def _draw_items(config: WorldConfig, rng: np.random.Generator) -> ItemTruth:
    n = config.items
    topic = rng.integers(len(TOPICS), size=n)
    minor = (topic + rng.integers(1, len(TOPICS), n)) % len(TOPICS)  # another one
    quality = rng.standard_normal(n)
    rank = np.argsort(np.argsort(-(0.5 * quality + rng.standard_normal(n))))
    is_late = rng.random(n) < config.late
    age = np.where(is_late, -rng.integers(DAY, config.days * DAY, n), rng.integers(DAY, 365 * DAY, n))
    return ItemTruth(
        topic=topic,
        minor=minor,
        look=rng.integers(len(LOOKS), size=n),
        mood=rng.integers(len(MOODS), size=n),
        domain=rng.choice(len(DOMAINS), n, p=(0.28, 0.22, 0.20, 0.18, 0.12)),
        chinese=rng.random(n) < config.chinese,
        quality=quality,
        popularity=-config.pull.popularity * np.log(rank + 1.0),
        created_at=START - age,
    )


def _draw_users(config: WorldConfig, rng: np.random.Generator) -> UserTruth:
    def favourites(width: int) -> Float[np.ndarray, "users width"]:
        liked = rng.random((config.users, width)).argsort(1) < 2  # two each
        return liked + rng.normal(0, 0.2, liked.shape)

    interests = np.zeros((2, config.users, len(TOPICS)))
    for user in range(config.users):
        *topics, fresh = rng.choice(len(TOPICS), rng.integers(3, 6), replace=False)  # 2 to 4, and one to come
        interests[0, user, topics] = rng.dirichlet(np.full(len(topics), 3.0))
        topics[rng.integers(len(topics))] = fresh  # one interest fades as another grows
        interests[1, user, topics] = rng.dirichlet(np.full(len(topics), 3.0))
    return UserTruth(interests, favourites(len(LOOKS)), favourites(len(MOODS)), favourites(len(DOMAINS)))


def _befriend(config: WorldConfig, truth: UserTruth, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of users; the more two have in common, the likelier (homophily)."""
    profile = np.hstack([3 * truth.interests[0], 0.5 * truth.looks, 0.5 * truth.moods])
    # The largest of scores plus Gumbel noise are a draw from their softmax, without replacement.
    liking = 3 * profile @ profile.T + rng.gumbel(size=(config.users, config.users))
    np.fill_diagonal(liking, -np.inf)
    chosen = np.argpartition(-liking, config.friends, axis=1)[:, : config.friends]
    pairs = {(min(u, int(v)), max(u, int(v))) for u, row in enumerate(chosen) for v in row}
    ids = _user_ids(config)
    return [(ids[u], ids[v]) for u, v in sorted(pairs)]


# ---- visits and choices -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Plan:
    """Who comes when and in the mood for which topic; what they choose is decided later."""

    users: Int64[np.ndarray, " events"]
    times: Int64[np.ndarray, " events"]
    session: Int64[np.ndarray, " events"]
    session_topic: Int64[np.ndarray, " events"]
    counts: Int64[np.ndarray, " users"]


def _plan_visits(config: WorldConfig, truth: UserTruth, rng: np.random.Generator) -> _Plan:
    spread = 0.9  # of the lognormal number of events
    extra = rng.lognormal(np.log(config.mean_events - config.min_events) - spread**2 / 2, spread, config.users)
    counts = np.minimum(config.min_events + extra.astype(np.int64), min(config.items // 4, 2 * config.days))
    visits = sorted((_visits(config, int(count), rng) for count in counts), key=lambda visit: int(visit[0][0]))
    counts = np.array([len(times) for times, _ in visits])  # users are numbered by their first event
    users = np.repeat(np.arange(config.users), counts)
    times, begins = (np.concatenate(column) for column in zip(*visits, strict=True))
    session = np.cumsum(begins) - 1
    shares = truth.interests_at(users[begins], _progress(config, times[begins]))
    topics = (shares.cumsum(1) < rng.random((len(shares), 1)) * shares.sum(1, keepdims=True)).sum(1)
    return _Plan(users, times, session, topics[session], counts)


def _visits(
    config: WorldConfig, count: int, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " events"], Bool[np.ndarray, " events"]]:
    """Times of one user's events, and which of them begin a session."""
    sizes = np.minimum(rng.geometric(0.25, count), 12)
    sessions = int(np.searchsorted(sizes.cumsum(), count)) + 1
    session = np.repeat(np.arange(count), sizes)[:count]
    slots = 4 * config.days  # one session at most in six hours, so that two never touch
    joined = min(int(rng.integers(max(int(0.6 * slots), 1))), slots - sessions)
    starts = START + 6 * 3600 * np.sort(joined + rng.choice(slots - joined, sessions, replace=False))
    starts += rng.integers(0, 3600, sessions)
    begins = np.diff(session, prepend=-1) > 0
    waits = np.where(begins, 0, rng.integers(20, 600, count)).cumsum()
    return starts[session] + waits - waits[begins][session], begins


def _choose(
    config: WorldConfig, items: ItemTruth, truth: UserTruth, plan: _Plan, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " events"], Float[np.ndarray, " events"]]:
    """The item of each event and the probability of choosing it; all users take a step at once."""
    first = plan.counts.cumsum() - plan.counts
    chosen, probability = np.full(len(plan.users), -1), np.zeros(len(plan.users))
    unseen = np.ones((config.users, config.items), bool)
    dice, popularity, factors = rng.random(len(plan.users)), np.exp(items.popularity), items.factors
    for step in range(int(plan.counts.max())):
        users = np.flatnonzero(plan.counts > step)
        now = first[users] + step
        same = plan.session[now] == plan.session[now - 1] if step else np.zeros(len(now), bool)
        wanted = desire(
            config,
            items,
            taste(config, truth, users, plan.times[now]),
            plan.session_topic[now],
            np.where(same, chosen[now - 1], -1),
        )
        odds = np.exp(wanted @ factors.T) * popularity  # double precision: the draws agree across machines
        odds *= unseen[users] & (items.created_at <= plan.times[now, None])
        ladder = odds.cumsum(1)
        pick = (ladder <= dice[now, None] * ladder[:, -1:]).sum(1)
        chosen[now], unseen[users, pick] = pick, False
        probability[now] = odds[np.arange(len(now)), pick] / ladder[:, -1]
    return chosen, probability


# ---- what a model may see -----------------------------------------------------------------------


def _render(config: WorldConfig, truth: ItemTruth, rng: np.random.Generator) -> list[Item]:
    """Items with text, picture and sound, some of which are missing."""
    missing = rng.random((config.items, len(RAW_MODALITIES))) < config.missing
    missing[missing.all(1), rng.integers(len(RAW_MODALITIES))] = False  # never all of them
    items = []
    for n, name in enumerate(_item_ids(truth)):
        topic, domain = int(truth.topic[n]), int(truth.domain[n])
        title, text = write_text(topic, int(truth.minor[n]), domain, bool(truth.chinese[n]), rng)
        picture, wave = paint(int(truth.look[n]), topic, rng), play(int(truth.mood[n]), domain, rng)
        no_text, no_picture, no_sound = missing[n]
        item = Item(
            id=name,
            domain=DOMAINS[domain],
            text=None if no_text else text,
            image=None if no_picture else picture,
            audio=None if no_sound else Sound(wave, RATE),
            created_at=int(truth.created_at[n]),
            title=title,
        )
        items.append(item)
    return items


def _act(truth: Truth, plan: _Plan, chosen: Int64[np.ndarray, " events"], rng: np.random.Generator) -> list[Event]:
    """The log in order of time: a view, or more than that where taste and quality are high."""
    items, users, ids = truth.items, _user_ids(truth.config), _item_ids(truth.items)
    pleasure = (truth.affinity - truth.affinity.mean()) / truth.affinity.std() + 0.5 * items.quality[chosen]
    like, comment = 0.5 / (1 + np.exp(1.0 - 1.5 * pleasure)), 0.2 / (1 + np.exp(1.0 - pleasure))
    dice = rng.random(len(chosen))
    action = np.where(dice < comment, "comment", np.where(dice < comment + like, "like", "view"))
    events = []
    for e in np.argsort(plan.times, kind="stable"):
        n, words = int(chosen[e]), None
        if action[e] == "comment":
            pleased = bool(pleasure[e] + rng.normal() > 0)
            words = write_comment(int(items.topic[n]), bool(items.chinese[n]), pleased, rng)
        events.append(Event(users[plan.users[e]], ids[n], action[e].item(), int(plan.times[e]), words))
    return events


def _item_ids(truth: ItemTruth) -> list[str]:
    return [f"{DOMAINS[domain]}-{item:05d}" for item, domain in enumerate(truth.domain)]


def _user_ids(config: WorldConfig) -> list[str]:
    return [f"user-{user:05d}" for user in range(config.users)]


def _progress(config: WorldConfig, times: Int64[np.ndarray, " rows"] | int) -> Float[np.ndarray, " rows"]:
    """How much of the log has passed, 0 to 1."""
    return np.clip((np.atleast_1d(times) - START) / (config.end - START), 0, 1)
