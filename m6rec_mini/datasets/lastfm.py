"""Last.fm listening counts with friendships: what do friends tell about a new user?

Cantador et al., HetRec 2011. 1,892 people, their most played artists with play counts, and who is
whose friend. An artist is known by the name alone, since the tags that people gave are not in
every copy.

There is no time in it. Every event has timestamp 0 and events keep the order of the file, which is
by artist id. Neither that nor falling counts is an order of listening: hold out at random here, and
never call an event "the next".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median

from m6rec_mini.catalog import Catalog, Event, Item
from m6rec_mini.datasets.columns import Columns, read_delimited
from m6rec_mini.datasets.records import OnBad, Report
from m6rec_mini.datasets.sources import Source

SOURCE = Source(
    name="lastfm",
    about="listening counts of artists, without time, and friendships: cold start through friends",
    publisher="GroupLens, HetRec 2011 (Last.fm 2K)",
    licence="non-commercial research; cite HetRec 2011 and Last.fm",
    layouts={"hetrec": ("artists.dat", "user_artists.dat", "user_friends.dat")},
)
DERIVED = (
    "listening to an artist is a view, a like if it is above the user's own median count; nobody comments; "
    "the order of events is unknown, so every timestamp is 0"
)
DOMAIN = "music"
MOST = 10**12  # plays; more is no count


def load(path: Path, *, bad: OnBad = "strict", report: Report | None = None) -> Catalog:
    """Read the folder; what was read and rejected goes into `report`.

    Raises DataError if the folder is another one, and, with bad="strict", if any record is bad.
    """
    report = Report() if report is None else report
    report.derived = DERIVED
    SOURCE.layout(path)
    artists = _artists(path / "artists.dat", report)
    events = _events(path / "user_artists.dat", {artist.id for artist in artists}, report)
    friends = _friends(path / "user_friends.dat", report)
    report.enforce(bad)
    return Catalog("lastfm", artists, events, friends, DERIVED)


def _artists(file: Path, report: Report) -> list[Item]:
    table = _read(file, report, ["id", "name"])
    ids, names = table.unique("id"), table.text("name")
    return [Item(ids[n], DOMAIN, text=names[n], title=names[n]) for n in table.good(report)]


def _events(file: Path, artists: Collection[str], report: Report) -> list[Event]:
    """Counts differ a thousandfold between users, so what is much is each user's own affair."""
    table = _read(file, report, ["userID", "artistID", "weight"])
    users, items = table.text("userID"), table.known("artistID", artists, "an artist")
    plays = table.whole("weight", 1, MOST, "how often it was played, 1 or more").tolist()
    good = table.good(report)
    counts: dict[str, list[int]] = {}
    for n in good:
        counts.setdefault(users[n], []).append(plays[n])
    usual = {user: median(values) for user, values in counts.items()}
    return [Event(users[n], items[n], "like" if plays[n] > usual[users[n]] else "view", 0) for n in good]


def _friends(file: Path, report: Report) -> list[tuple[str, str]]:
    """Each friendship once, though the file has it in both directions."""
    table = _read(file, report, ["userID", "friendID"])
    users, friends = table.text("userID"), table.text("friendID")
    for n, (user, friend) in enumerate(zip(users, friends, strict=True)):
        if user == friend:
            table.fault(n, "friendID", "no pair", "somebody else than the user")
    once: dict[frozenset[str], tuple[str, str]] = {}
    for n in table.good(report):
        once.setdefault(frozenset((users[n], friends[n])), (users[n], friends[n]))
    return list(once.values())


def _read(file: Path, report: Report, fields: Sequence[str]) -> Columns:
    return Columns(file, read_delimited(file, report, fields, "\t"), fields)
