"""MovieLens: real films, with text, poster and trailer where somebody has joined them.

Two layouts are recognised by their files. *Trimodal*: MovieLens ml-latest-small joined with
posters and with MMTF-14K, whose trailers come as numbers that others computed: 20 for the sound
(an i-vector), 107 for the look. They enter the model behind its encoders; there is no wave to hear.
*ml-100k*: RecBole's atomic files, where films are text only.

Ratings are no views or likes, so those are derived, and the catalog says so. Events keep the order
of the file. Where timestamps tie, that is no order of time: in the trimodal file every tie stands
in ascending film id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from m6rec_mini.catalog import Catalog, DataError, Event, Item
from m6rec_mini.datasets.columns import Columns
from m6rec_mini.datasets.fields import LIKED, identifier, item_from, words
from m6rec_mini.datasets.media import MAX_SECONDS
from m6rec_mini.datasets.records import OnBad, Record, Report, RowError, number, read_table, show
from m6rec_mini.datasets.sources import Source

SOURCE = Source(
    name="movielens",
    about="films with text, and in the trimodal join posters and trailer features; ratings with timestamps",
    publisher="GroupLens, MovieLens ml-latest-small (joined with posters and with MMTF-14K), or "
    "MovieLens 100K as RecBole's atomic files",
    licence="GroupLens: research, no commercial use without permission; posters belong to their owners",
    layouts={"trimodal": ("items.csv", "ratings.csv", "posters"), "ml-100k": ("*.item", "*.inter")},
)
DERIVED = f"a rating from {LIKED:g} up is a like, any other a view; nobody comments"
DERIVED_WITH_TAGS = DERIVED + ", since tags are given per film, not per user"
DOMAIN = "film"
FEATURES = {"sound": ("ivec", 20), "look": ("avf", 107)}  # modality: first letters of its columns, how many
YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
FIRST_YEAR, LAST_YEAR = 1870, 2100
NO_GENRE = {"(no genres listed)", "unknown"}
IMAGE_SIZE = 96  # pixels of the longer side: enough for an encoder, and for a person to recognise a film


def load(
    path: Path, tags: bool = True, image_size: int = IMAGE_SIZE, *, bad: OnBad = "strict", report: Report | None = None
) -> Catalog:
    """Read the folder, posters shrunk to `image_size`; what was read and rejected goes into `report`.

    `tags=False` leaves out the tags that people wrote (ml-100k has none). They leak popularity:
    known films have more of them, so measure cold start without.
    Raises DataError if the folder is another one, and, with bad="strict", if any record is bad.
    """
    report = Report() if report is None else report
    layout = SOURCE.layout(path)
    if layout == "trimodal":
        items = _trimodal_films(path, tags, image_size, report)
        ratings, names = path / "ratings.csv", ("userId", "movieId", "rating", "timestamp")
        report.derived = DERIVED_WITH_TAGS
    else:
        items = _recbole_films(_only(path, "*.item"), report)
        ratings, names = _only(path, "*.inter"), ("user_id", "item_id", "rating", "timestamp")
        report.derived = DERIVED
    events = _ratings(ratings, names, {item.id for item in items}, report)
    report.enforce(bad)
    return Catalog(f"movielens-{layout.removeprefix('ml-')}", items, events, derived=report.derived)


def _only(path: Path, pattern: str) -> Path:
    found = sorted(path.glob(pattern))
    if len(found) > 1:
        raise DataError(f"{path} has {', '.join(file.name for file in found)}; keep one of them")
    return found[0]


def _trimodal_films(path: Path, tags: bool, image_size: int, report: Report) -> list[Item]:
    file = path / "items.csv"
    columns = [f"{prefix}{n}" for prefix, width in FEATURES.values() for n in range(1, width + 1)]
    posters = {poster.stem for poster in (path / "posters").glob("*.jpg")}

    def film(record: Record) -> Record:
        name, genres = identifier(record, "movieId"), words(record, "genres") or ""
        human = (words(record, "tag") or "").replace("_", " ").split(",") if tags else []
        features = {modality: _vector(record, *columns) for modality, columns in FEATURES.items()}
        titled = words(record, "title") or ""
        return _text("title", titled, _year(record), genres.split("|"), human) | {
            "id": name,
            "image": f"posters/{name}.jpg" if name in posters else None,
            "features": {modality: vector for modality, vector in features.items() if vector is not None},
        }

    items = _films(file, ["movieId", "title", "genres", "year", "tag", *columns], film, image_size, report)
    for part in ("image", *FEATURES):
        without = sum(part not in item.modalities for item in items)
        if without:
            report.notes.append(f"{file.name}: {without:,} films have no {part}")
    return items


def _recbole_films(file: Path, report: Report) -> list[Item]:
    def film(record: Record) -> Record:
        title, genres = _words_of(record, "movie_title"), _words_of(record, "class")
        # A program cut the year out of the title, not always well ("V", "unkonwn"): then it is unknown.
        year = number(str(record["release_year"]))
        year = year if year is not None and FIRST_YEAR <= year <= LAST_YEAR else None
        return {"id": identifier(record, "item_id")} | _text("movie_title", " ".join(title), year, genres, [])

    return _films(file, ["item_id", "movie_title", "release_year", "class"], film, IMAGE_SIZE, report)


def _words_of(record: Record, field: str) -> list[str]:
    value = record[field]
    return value if isinstance(value, list) else []


def _films(
    file: Path, required: Sequence[str], film: Callable[[Record], Record], image_size: int, report: Report
) -> list[Item]:
    """The items of a table, each record put into our words by `film`; an id may occur once."""
    items: list[Item] = []
    first_rows: dict[str, int] = {}
    for row, record in read_table(file, report, required):
        try:
            ours = film(record)
            name = str(ours["id"])
            if name in first_rows:
                reason = f"film {show(name)} stands in row {first_rows[name]} already; keep one"
                raise RowError(required[0], "duplicate", reason)
            items.append(item_from(ours, file.parent, image_size, MAX_SECONDS))
            first_rows[name] = row
        except RowError as error:
            report.reject(file, row, error)
    report.accept(file, len(items))
    return items


def _text(field: str, titled: str, year: float | None, genres: Collection[str], tags: Collection[str]) -> Record:
    """Domain, title for people, and text for the model, such as "Heat. Action, Crime. 1990s. al pacino, heist"."""
    in_brackets = YEAR.search(titled)
    title = YEAR.sub("", titled).strip()
    if not title:
        raise RowError(field, "missing", f"{field} is {show(titled)}; every film needs one")
    if year is None and in_brackets:
        year = float(in_brackets[1])
    known = [genre for genre in genres if genre and genre not in NO_GENRE]
    decade = "" if year is None else f"{int(year) // 10 * 10}s"
    parts = [title, ", ".join(known), decade, ", ".join(tag.strip() for tag in tags if tag.strip())]
    text = ". ".join(part for part in parts if part)
    return {"domain": DOMAIN, "title": title if year is None else f"{title} ({year:.0f})", "text": text}


def _year(record: Record) -> float | None:
    text = words(record, "year")
    year = None if text is None else number(text)
    if text is not None and (year is None or not FIRST_YEAR <= year <= LAST_YEAR):
        raise RowError("year", "not a year", f"year is {show(text)}; expected such as 1995, or nothing")
    return year


def _vector(record: Record, prefix: str, width: int) -> list[float] | None:
    """The numbers of one modality; None, that is missing, if any is empty or NaN: half a vector says nothing."""
    fields = [f"{prefix}{n}" for n in range(1, width + 1)]
    try:
        vector = np.array([record[field] for field in fields], np.float64)  # an empty cell, None, becomes NaN
    except ValueError:
        field = next(field for field in fields if number(str(record[field] or 0)) is None)
        reason = f"{field} is {show(record[field])}; expected a number or nothing"
        raise RowError(field, "not a number", reason) from None
    return None if np.isnan(vector).any() else vector.tolist()


def _ratings(file: Path, names: Sequence[str], films: Collection[str], report: Report) -> list[Event]:
    """`names` are the columns of user, film, rating and timestamp."""
    table = Columns(file, read_table(file, report, names), names)
    users, items = table.text(names[0]), table.known(names[1], films, "a film")
    stars = table.numbers(names[2], 0.5, 5.0, "0.5 to 5 stars").tolist()
    times = table.times(names[3]).tolist()
    return [Event(users[n], items[n], "like" if stars[n] >= LIKED else "view", times[n]) for n in table.good(report)]
