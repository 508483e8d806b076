"""What goes into the recommender: items, events, and the catalog that ties them together.

An *item* says what it is in up to three raw modalities (text, image, audio) and in any number
of ready-made feature vectors; some may be missing, never all. An *event* is one *action* of a
user on an item. A `Catalog` holds both and has checked that they agree: every rule that the
model relies on is enforced here once, so that no later line has to ask again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

Action = Literal["view", "like", "comment"]
ACTIONS: tuple[Action, ...] = get_args(Action)
RAW_MODALITIES = ("text", "image", "audio")

# Seconds since 1970. Before the first web page or a century ahead is a unit mistake, not a time.
EARLIEST, LATEST = 0, 4_102_444_800
MAX_TEXT = 20_000  # characters; longer text is cut by the tokenizer anyway and only costs memory


@dataclass(frozen=True, eq=False)
class Sound:
    """A mono waveform in [-1, 1] and its sample rate in Hz."""

    wave: Float32[np.ndarray, " samples"]
    rate: int


@dataclass(frozen=True, eq=False)
class Item:
    """One thing that can be recommended.

    `image` is height x width x RGB. `features` holds vectors that somebody else's encoder has
    already made, by modality name ("look", "sound"); they enter the model behind its encoders.
    """

    id: str
    domain: str = ""
    text: str | None = None
    image: UInt8[np.ndarray, "height width 3"] | None = None
    audio: Sound | None = None
    features: Mapping[str, Float32[np.ndarray, " _"]] = field(default_factory=dict)
    created_at: int | None = None
    title: str = ""  # for people; the model reads `text`

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("an item needs an id; got an empty one")
        if self.text is not None and len(self.text) > MAX_TEXT:
            raise ValueError(f"text has {len(self.text)} characters; at most {MAX_TEXT} are read, so cut it first")
        for name, vector in self.features.items():
            if not np.isfinite(vector).all():
                raise ValueError(f"feature '{name}' has NaN or infinite numbers; leave the modality out instead")
        if self.created_at is not None:
            check_timestamp(self.created_at)
        if not self.modalities:
            raise ValueError("no modality at all: give text, an image, audio or a feature vector")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of what is present: raw ones first, then feature vectors."""
        raw = [name for name in RAW_MODALITIES if getattr(self, name) is not None and not _blank(getattr(self, name))]
        return (*raw, *self.features)

    @property
    def label(self) -> str:
        """A short name that a person recognises."""
        return self.title or (self.text or "").strip()[:60] or self.id


@dataclass(frozen=True)
class Event:
    """A user's action on an item at a time (seconds since 1970), with the words of a comment."""

    user: str
    item: str
    action: Action
    timestamp: int
    comment: str | None = None

    def __post_init__(self) -> None:
        if not self.user or not self.item:
            raise ValueError("an event needs a user and an item; one of them is empty")
        if self.action not in ACTIONS:
            raise ValueError(f"action is {self.action!r}; expected one of {', '.join(ACTIONS)}")
        check_timestamp(self.timestamp)
        if self.comment is not None and self.action != "comment":
            raise ValueError(f"comment text on a {self.action!r}: only a 'comment' has words")


@dataclass(frozen=True, eq=False)
class History:
    """One user's past as parallel arrays, oldest first; items and actions are indices."""

    items: Int64[np.ndarray, " events"]
    actions: Int64[np.ndarray, " events"]
    times: Int64[np.ndarray, " events"]

    def __len__(self) -> int:
        return len(self.items)

    def last(self, count: int) -> History:
        """The `count` most recent events."""
        start = max(len(self) - count, 0)
        return History(self.items[start:], self.actions[start:], self.times[start:])


EMPTY_HISTORY = History(*(np.zeros(0, np.int64) for _ in range(3)))


@dataclass(frozen=True, eq=False)
class Interactions:
    """All events as parallel arrays, users together, each user's events in order of time.

    The order is *stable*: events with equal timestamps keep the order in which they were given.
    Real logs have many of those, and an unstable sort silently changes which item is "the next".
    """

    users: Int64[np.ndarray, " events"]
    items: Int64[np.ndarray, " events"]
    actions: Int64[np.ndarray, " events"]
    times: Int64[np.ndarray, " events"]
    num_users: int
    num_items: int

    @classmethod
    def sort(
        cls,
        users: Int64[np.ndarray, " events"],
        items: Int64[np.ndarray, " events"],
        actions: Int64[np.ndarray, " events"],
        times: Int64[np.ndarray, " events"],
        num_users: int,
        num_items: int,
    ) -> Interactions:
        """Group by user and order by time, stably."""
        order = np.lexsort((times, users))  # lexsort is stable: ties keep the order of the log
        return cls(users[order], items[order], actions[order], times[order], num_users, num_items)

    def __len__(self) -> int:
        return len(self.items)

    def keep(self, mask: Bool[np.ndarray, " events"]) -> Interactions:
        """The events where `mask` is true; users and items keep their indices."""
        return Interactions(
            self.users[mask], self.items[mask], self.actions[mask], self.times[mask], self.num_users, self.num_items
        )

    @cached_property
    def bounds(self) -> Int64[np.ndarray, " users_plus_one"]:
        """User u's events are at bounds[u]:bounds[u + 1]."""
        return np.searchsorted(self.users, np.arange(self.num_users + 1)).astype(np.int64)

    def history(self, user: int, end: int | None = None) -> History:
        """User's events, up to position `end` (exclusive) of these arrays."""
        rows = slice(int(self.bounds[user]), int(self.bounds[user + 1]) if end is None else end)
        return History(self.items[rows], self.actions[rows], self.times[rows])

    @cached_property
    def item_counts(self) -> Int64[np.ndarray, " items"]:
        """How many events each item has."""
        return np.bincount(self.items, minlength=self.num_items).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Catalog:
    """Items and the events on them, known to agree.

    `friends` are undirected pairs of user ids. Raises ValueError if an id is given twice, or an
    event or friend is about something unknown; readers that must report every bad row check
    before they come here.
    """

    name: str
    items: Sequence[Item]
    events: Sequence[Event] = ()
    friends: Sequence[tuple[str, str]] = ()
    derived: str = ""  # how views, likes and comments came about, where the source has none

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("a catalog needs at least one item")
        if len(self.item_index) != len(self.items):
            twice = next(item.id for n, item in enumerate(self.items) if self.item_index[item.id] != n)
            raise ValueError(f"item id {twice!r} is given twice")
        unknown = next((event.item for event in self.events if event.item not in self.item_index), None)
        if unknown is not None:
            raise ValueError(f"an event names item {unknown!r}, which is not in the catalog")

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Item id to row."""
        return {item.id: row for row, item in enumerate(self.items)}

    @cached_property
    def users(self) -> tuple[str, ...]:
        """User ids in order of first appearance, in events, then among friends."""
        return tuple(dict.fromkeys([e.user for e in self.events] + [u for pair in self.friends for u in pair]))

    @cached_property
    def user_index(self) -> dict[str, int]:
        """User id to row."""
        return {user: row for row, user in enumerate(self.users)}

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Every modality that some item has: text, image, audio, then features by name."""
        present = {name for item in self.items for name in item.modalities}
        raw = tuple(name for name in RAW_MODALITIES if name in present)
        return (*raw, *sorted(present.difference(RAW_MODALITIES)))

    @cached_property
    def interactions(self) -> Interactions:
        """The events as arrays, stably sorted."""
        return Interactions.sort(
            _int64(self.user_index[e.user] for e in self.events),
            _int64(self.item_index[e.item] for e in self.events),
            _int64(ACTIONS.index(e.action) for e in self.events),
            _int64(e.timestamp for e in self.events),
            len(self.users),
            len(self.items),
        )

    def history(self, events: Iterable[Event]) -> History:
        """Events of one user as arrays, in order of time; raises KeyError for an unknown item."""
        ordered = sorted(events, key=lambda event: event.timestamp)
        return History(
            _int64(self.item_index[e.item] for e in ordered),
            _int64(ACTIONS.index(e.action) for e in ordered),
            _int64(e.timestamp for e in ordered),
        )


class DataError(ValueError):
    """Data that cannot be used; the message says where, what was expected and what to do."""


@dataclass(frozen=True)
class Problem:
    """One rejected record: where it stands and what is wrong with it."""

    file: Path
    row: int | None
    field: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}" + (f", row {self.row}" if self.row is not None else "")
        return f"{where}, {self.field}: {self.reason}" if self.field else f"{where}: {self.reason}"


def check_timestamp(timestamp: int) -> None:
    """Raise ValueError unless the number can be a time in seconds since 1970."""
    if not EARLIEST <= timestamp < LATEST:
        hint = " (milliseconds? divide by 1000)" if LATEST <= timestamp < LATEST * 1000 else ""
        raise ValueError(f"timestamp {timestamp} is not between 1970 and 2100 in seconds{hint}")


def _blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _int64(values: Iterable[int]) -> Int64[np.ndarray, " n"]:
    return np.fromiter(values, np.int64)
