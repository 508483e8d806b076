"""The registry and the public data sets: small folders written here, and the real ones where they are."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m6rec_mini.catalog import Catalog, DataError, Event
from m6rec_mini.datasets import CATALOGS, SOURCES, fsdd, lastfm, load, load_with_report, movielens, open_bandit
from m6rec_mini.datasets.records import Report

# ---------------------------------------------------------------- small folders

IVEC = [f"ivec{n}" for n in range(1, 21)]
AVF = [f"avf{n}" for n in range(1, 108)]
FILMS: list[dict[str, str]] = [
    {"movieId": "10", "title": "Heat (1995)", "genres": "Action|Crime", "year": "1995", "tag": "al_pacino,heist"},
    {"movieId": "2", "title": "Éloge (2001)", "genres": "Drama", "year": "2001.0", "tag": ""},
    {"movieId": "7", "title": "Untitled", "genres": "(no genres listed)", "year": "", "tag": "slow"},
]
RATINGS = ["u1,10,5.0,100", "u1,2,3.5,100", "u1,7,4.0,90", "u2,2,0.5,80"]


def write_csv(path: Path, columns: list[str], rows: list[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="0.5")
        writer.writeheader()
        writer.writerows(rows)


def trimodal(folder: Path, films: list[Mapping[str, str]] | None = None, ratings: list[str] | None = None) -> Path:
    """Films 10 and 2 have posters, 90 x 120 pixels; numbers not given are 0.5."""
    films = [*FILMS] if films is None else films
    write_csv(folder / "items.csv", ["movieId", "title", "genres", "year", "tag", *AVF, *IVEC, "split"], films)
    lines = ["userId,movieId,rating,timestamp", *(RATINGS if ratings is None else ratings)]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    (folder / "posters").mkdir()
    for name, colour in (("10", "red"), ("2", "blue")):
        Image.new("RGB", (90, 120), colour).save(folder / "posters" / f"{name}.jpg")
    return folder


def hundred_k(folder: Path, items: list[str] | None = None) -> Path:
    """RecBole's layout."""
    films = ["1\tToy Story\t1995\tAnimation Comedy", "267\tunkonwn\tunkonwn\tunknown", "5\tIII (1996)\tV\tDrama"]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (folder / "x.item").write_text("\n".join([header, *(films if items is None else items)]) + "\n")
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "a\t5\t4\t50", "a\t1\t3\t50", "b\t1\t5\t7"]
    (folder / "x.inter").write_text("\n".join(rows) + "\n")
    return folder


def hetrec(
    folder: Path, listens: str = "9\t1\t30\n9\t2\t20\n9\t3\t10\n8\t3\t7\n", friends: str = "9\t8\n8\t9\n"
) -> Path:
    artists = 'id\tname\turl\n1\tBjörk\tu\n2\t"Weird Al" Yankovic\tu\n3\tMum\t\n'
    (folder / "artists.dat").write_bytes(artists.encode())
    (folder / "user_artists.dat").write_text("userID\tartistID\tweight\r\n" + listens)
    (folder / "user_friends.dat").write_text("userID\tfriendID\n" + friends)
    return folder


def bare(event: Event) -> tuple[str, str, str, int]:
    return event.user, event.item, event.action, event.timestamp


def reasons(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    return str(caught.value)


# ---------------------------------------------------------------- MovieLens


def test_trimodal_film_has_text_poster_and_trailer(tmp_path: Path) -> None:
    film = movielens.load(trimodal(tmp_path), image_size=40).items[0]
    assert film.text == "Heat. Action, Crime. 1990s. al pacino, heist"
    assert (film.id, film.domain, film.title, film.created_at) == ("10", "film", "Heat (1995)", None)
    assert film.modalities == ("text", "image", "sound", "look")
    assert film.image is not None
    assert film.image.shape == (40, 30, 3)
    assert film.image[20, 15, 0] > 200 > 50 > film.image[20, 15, 2]  # red
    assert (film.features["sound"].shape, film.features["look"].shape) == ((20,), (107,))


def test_films_without_tags_genres_year_or_poster(tmp_path: Path) -> None:
    report = Report()
    catalog = movielens.load(trimodal(tmp_path), tags=False, report=report)
    assert [item.text for item in catalog.items] == ["Heat. Action, Crime. 1990s", "Éloge. Drama. 2000s", "Untitled"]
    assert catalog.items[2].image is None
    assert report.notes == ["items.csv: 1 films have no image"]


def test_features_go_where_their_columns_say(tmp_path: Path) -> None:
    numbers = {name: str(n) for n, name in enumerate(AVF)} | {name: str(-n) for n, name in enumerate(IVEC)}
    film = movielens.load(trimodal(tmp_path, [FILMS[0] | numbers], ["u,10,3,1"])).items[0]
    np.testing.assert_array_equal(film.features["look"], np.arange(107))
    np.testing.assert_array_equal(film.features["sound"], -np.arange(20))


@pytest.mark.parametrize("gap", ["", "NaN", "nan"])
def test_a_vector_with_a_gap_is_a_missing_modality(tmp_path: Path, gap: str) -> None:
    report = Report()
    films = [FILMS[0] | {"ivec20": gap}, FILMS[1], FILMS[2] | {"avf3": gap}]
    catalog = movielens.load(trimodal(tmp_path, films), report=report)
    assert [set(item.features) for item in catalog.items] == [{"look"}, {"sound", "look"}, {"sound"}]
    assert "items.csv: 1 films have no sound" in report.notes


def test_ratings_become_views_and_likes_in_the_order_of_the_file(tmp_path: Path) -> None:
    catalog = movielens.load(trimodal(tmp_path))
    events = [("u1", "10", "like", 100), ("u1", "2", "view", 100), ("u1", "7", "like", 90), ("u2", "2", "view", 80)]
    assert [bare(event) for event in catalog.events] == events
    first = catalog.interactions.history(0)  # in order of time; the tie keeps the order of the file
    assert [catalog.items[n].id for n in first.items] == ["7", "10", "2"]
    assert "a like" in catalog.derived
    assert "tags" in catalog.derived


def test_recbole_layout(tmp_path: Path) -> None:
    catalog = movielens.load(hundred_k(tmp_path))
    texts = ["Toy Story. Animation, Comedy. 1990s", "unkonwn", "III. Drama. 1990s"]
    assert [item.text for item in catalog.items] == texts
    assert [item.title for item in catalog.items] == ["Toy Story (1995)", "unkonwn", "III (1996)"]
    events = [("a", "5", "like", 50), ("a", "1", "view", 50), ("b", "1", "like", 7)]
    assert [bare(event) for event in catalog.events] == events
    assert catalog.name == "movielens-100k"


BAD_FILMS = {
    "year": ({"year": "soon"}, "row 2, year: year is 'soon'"),
    "title": ({"title": ""}, "row 2, title: title is ''"),
    "only a year": ({"title": "(1995)"}, "row 2, title:"),
    "id": ({"movieId": ""}, "row 2, movieId: no movieId"),
    "number": ({"avf7": "0,5"}, "row 2, avf7: avf7 is '0,5'; expected a number"),
    "infinite": ({"avf7": "inf"}, "row 2, features: feature 'look' has NaN or infinite"),
    "twice": ({"movieId": "7"}, "row 4, movieId: film '7' stands in row 2 already"),
}


@pytest.mark.parametrize("case", BAD_FILMS)
def test_bad_films_are_named(tmp_path: Path, case: str) -> None:
    change, message = BAD_FILMS[case]
    folder = trimodal(tmp_path, [FILMS[0] | change, *FILMS[1:]], ["u,2,3,1"])
    assert f"{folder / 'items.csv'}, {message}" in reasons(lambda: movielens.load(folder))
    report = Report()
    assert len(movielens.load(folder, bad="skip", report=report).items) == 2
    assert report.rejected == 1


BAD_RATINGS = {
    "unknown film": ("u,99,3,1", "row 2, movieId: movieId is '99'; expected a film that was read before"),
    "no user": (",2,3,1", "row 2, userId: no userId"),
    "word": ("u,2,good,1", "row 2, rating: rating is 'good'; expected 0.5 to 5 stars"),
    "NaN": ("u,2,nan,1", "row 2, rating: rating is 'nan'"),
    "out of range": ("u,2,6,1", "row 2, rating: rating is '6'"),
    "no rating": ("u,2,,1", "row 2, rating: no rating"),
    "milliseconds": ("u,2,3,1100000000000", "milliseconds"),
    "negative time": ("u,2,3,-1", "row 2, timestamp:"),
    "no time": ("u,2,3,", "row 2, timestamp: no timestamp"),
    "short row": ("u,2,3", "row 2: 3 cells"),
}


@pytest.mark.parametrize("case", BAD_RATINGS)
def test_bad_ratings_are_named(tmp_path: Path, case: str) -> None:
    line, message = BAD_RATINGS[case]
    folder = trimodal(tmp_path, ratings=[line, "u,2,3,1"])
    assert message in reasons(lambda: movielens.load(folder))
    catalog, report = load_with_report("movielens", folder, bad="skip")
    assert [bare(event) for event in catalog.events] == [("u", "2", "view", 1)]
    assert (report.rejected, report.problems[0].file.name) == (1, "ratings.csv")


def test_a_broken_poster_costs_the_film_and_its_ratings(tmp_path: Path) -> None:
    folder = trimodal(tmp_path)
    (folder / "posters" / "2.jpg").write_bytes(b"\xff\xd8 cut short")
    assert "row 3, image:" in reasons(lambda: movielens.load(folder))
    catalog, report = load_with_report("movielens", folder, bad="skip")
    assert [item.id for item in catalog.items] == ["10", "7"]
    assert [event.item for event in catalog.events] == ["10", "7"]
    assert report.rejected == 3


def test_missing_columns_and_doubled_tables_stop_at_once(tmp_path: Path) -> None:
    write_csv(trimodal(tmp_path) / "items.csv", ["movieId", "title"], [{"movieId": "1", "title": "A"}])
    assert "no column genres, year, tag" in reasons(lambda: movielens.load(tmp_path, bad="skip"))
    (tmp_path / "recbole").mkdir()
    folder = hundred_k(tmp_path / "recbole")
    (folder / "y.inter").write_bytes((folder / "x.inter").read_bytes())
    assert "x.inter, y.inter; keep one" in reasons(lambda: movielens.load(folder))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["10", "2", "7"]), st.integers(0, 3)), min_size=1))
def test_equal_timestamps_keep_the_order_of_the_file(rows: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        catalog = movielens.load(trimodal(Path(name), ratings=[f"{u},{film},3,{time}" for u, film, time in rows]))
    for n, user in enumerate(catalog.users):
        expected = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])  # Python's sort is stable
        assert [catalog.items[i].id for i in catalog.interactions.history(n).items] == [film for _, film, _ in expected]


# ---------------------------------------------------------------- Last.fm


def test_lastfm_listens_and_friends(tmp_path: Path) -> None:
    catalog = lastfm.load(hetrec(tmp_path))
    assert [item.text for item in catalog.items] == ["Björk", '"Weird Al" Yankovic', "Mum"]
    assert {item.domain for item in catalog.items} == {"music"}
    events = [("9", "1", "like", 0), ("9", "2", "view", 0), ("9", "3", "view", 0), ("8", "3", "view", 0)]
    assert [bare(event) for event in catalog.events] == events
    assert catalog.friends == [("9", "8")]
    assert "order of events is unknown" in catalog.derived


@settings(max_examples=25)
@given(
    st.dictionaries(st.tuples(st.integers(1, 4), st.integers(1, 3)), st.integers(1, 9), min_size=1),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda pair: pair[0] != pair[1]), min_size=1),
)
def test_lastfm_laws(counts: dict[tuple[int, int], int], pairs: list[tuple[int, int]]) -> None:
    """A like is a count above the user's median; a friendship is a set of two, known once."""
    listens = "".join(f"{user}\t{artist}\t{count}\n" for (user, artist), count in counts.items())
    friends = "".join(f"{a}\t{b}\n" for a, b in pairs)
    with tempfile.TemporaryDirectory() as name:
        catalog = lastfm.load(hetrec(Path(name), listens, friends))
    for event, ((user, _), count) in zip(catalog.events, counts.items(), strict=True):
        usual = median(value for (who, _), value in counts.items() if who == user)
        assert event.action == ("like" if count > usual else "view")
    expected = {frozenset(map(str, pair)) for pair in pairs}
    assert len(catalog.friends) == len(expected)
    assert {frozenset(pair) for pair in catalog.friends} == expected


BAD_LISTENS = {
    "unknown artist": ("9\t4\t5\n", "row 2, artistID: artistID is '4'; expected an artist that was read before"),
    "no count": ("9\t1\t\n", "row 2, weight: no weight"),
    "word": ("9\t1\tmany\n", "row 2, weight: weight is 'many'"),
    "zero": ("9\t1\t0\n", "row 2, weight: weight is '0'"),
    "short row": ("9\t1\n", "row 2: 2 cells; the header has 3 columns"),
}


@pytest.mark.parametrize("case", BAD_LISTENS)
def test_bad_listens_are_named(tmp_path: Path, case: str) -> None:
    line, message = BAD_LISTENS[case]
    folder = hetrec(tmp_path, line + "9\t2\t5\n")
    assert f"{folder / 'user_artists.dat'}, {message}" in reasons(lambda: lastfm.load(folder))
    assert len(lastfm.load(folder, bad="skip").events) == 1


def test_bad_artists_and_friends_are_named(tmp_path: Path) -> None:
    folder = hetrec(tmp_path, listens="9\t2\t1\n", friends="9\t9\n9\t8\n")
    (folder / "artists.dat").write_bytes(b"id\tname\n1\tBj\xf6rk\n2\tMum\n2\tDad\n3\t\n")
    message = reasons(lambda: lastfm.load(folder))
    for expected in (
        "row 2: not UTF-8: byte 5 is 0xf6",
        "row 4, id: id is '2'; expected something else, since row 3 has it",
        "row 5, name: no name",
        "row 2, friendID: friendID is '9'; expected somebody else than the user",
    ):
        assert expected in message
    catalog, report = load_with_report("lastfm", folder, bad="skip")
    assert (len(catalog.items), len(catalog.events), report.rejected) == (1, 1, 4)


def test_lastfm_header_is_checked(tmp_path: Path) -> None:
    folder = hetrec(tmp_path)
    (folder / "user_friends.dat").write_text("user\tfriend\n9\t8\n")
    assert "no column userID, friendID; it has 'user, friend'" in reasons(lambda: lastfm.load(folder))
    (folder / "user_friends.dat").write_bytes("\ufeffuserID\tfriendID\n\n9\t8\n".encode())  # from an editor
    assert lastfm.load(folder).friends == [("9", "8")]
    (folder / "user_friends.dat").write_bytes(b"userID\tfri\xeendID\n9\t8\n")
    assert "the header is unreadable: not UTF-8" in reasons(lambda: lastfm.load(folder))
    (folder / "user_friends.dat").write_text("")
    assert "is empty" in reasons(lambda: lastfm.load(folder))


# ---------------------------------------------------------------- registry


def test_an_unknown_name_lists_the_known_ones() -> None:
    message = reasons(lambda: load("movielense"))
    assert all(name in message for name in ("movielense", "world", "movielens", "lastfm", "folder"))
    assert "datasets.fsdd.load" in reasons(lambda: load("fsdd"))


@pytest.mark.parametrize("name", [name for name in CATALOGS if name not in ("world", "folder")])
def test_missing_and_wrong_folders_say_what_is_wanted(tmp_path: Path, name: str) -> None:
    publisher = SOURCES[name].publisher
    file = tmp_path / "a.txt"
    file.write_text("x")
    for path, said in ((None, "give the path"), (tmp_path / "b", "does not exist"), (file, "is a file")):
        message = reasons(lambda path=path: load(name, path))
        assert said in message
        assert publisher in message
    message = reasons(lambda: load(name, tmp_path))
    assert "found a.txt" in message
    assert all(pattern in message for patterns in SOURCES[name].layouts.values() for pattern in patterns)


def test_loaders_without_registry_check_their_folder_too(tmp_path: Path) -> None:
    for loader in (movielens.load, lastfm.load, open_bandit.load, fsdd.load):
        assert "found nothing" in reasons(lambda loader=loader: loader(tmp_path))
        assert "is published as" in reasons(lambda loader=loader: loader(tmp_path / "absent"))


def test_every_source_can_be_told_to_people() -> None:
    assert list(SOURCES) == ["world", "movielens", "lastfm", "folder", "open_bandit", "fsdd"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert all((source.about, source.publisher, source.licence))
        assert "://" not in source.publisher


def test_options_reach_the_loader(tmp_path: Path) -> None:
    assert "pacino" not in str(load("movielens", trimodal(tmp_path), tags=False).items[0].text)
    world = load("world", items=120, users=12, seed=3)
    assert (len(world.items), len(world.users)) == (120, 12)
    assert "is made, not read" in reasons(lambda: load("world", tmp_path))


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"id": "a", "text": "tea"}\n{"id": "b"}\n')
    (tmp_path / "events.jsonl").write_text('{"user": "u", "item": "a", "action": "view", "timestamp": 5}\n')
    assert "row 2" in reasons(lambda: load("folder", tmp_path))
    catalog, report = load_with_report("folder", tmp_path, bad="skip")
    assert ([item.id for item in catalog.items], report.rejected) == (["a"], 1)
    assert "folder needs the path" in reasons(lambda: load("folder"))


# ---------------------------------------------------------------- the real ones


@pytest.fixture(scope="module")
def trimodal_films(shared_data: Path) -> tuple[Catalog, Report]:
    return load_with_report("movielens", shared_data / "movielens_trimodal", image_size=32)


def test_real_trimodal_counts(trimodal_films: tuple[Catalog, Report]) -> None:
    catalog, report = trimodal_films
    assert (len(catalog.users), len(catalog.items), len(catalog.events)) == (610, 1852, 51_912)
    assert (catalog.interactions.item_counts <= 10).sum() == 652
    assert catalog.modalities == ("text", "image", "look", "sound")
    assert all(len(item.modalities) == 4 for item in catalog.items)
    assert (report.rejected, report.notes) == (0, [])
    assert sum(event.action == "like" for event in catalog.events) == 14_320 + 4_259 + 7_510  # 4, 4.5 and 5 stars


def test_real_posters_are_pictures(trimodal_films: tuple[Catalog, Report]) -> None:
    posters = [item.image for item in trimodal_films[0].items if item.image is not None]
    assert len(posters) == 1852
    assert all(poster.shape[0] == 32 and 20 <= poster.shape[1] <= 25 and poster.std() > 5 for poster in posters)


def test_real_ties_stay_in_the_order_of_the_file(trimodal_films: tuple[Catalog, Report], shared_data: Path) -> None:
    catalog, _ = trimodal_films
    with (shared_data / "movielens_trimodal" / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = sorted(rows, key=lambda row: (int(row["userId"]), int(row["timestamp"])))  # stable
    log = catalog.interactions
    assert [catalog.items[n].id for n in log.items] == [row["movieId"] for row in expected]
    tied = (log.users[1:] == log.users[:-1]) & (log.times[1:] == log.times[:-1])
    assert tied.sum() == 7_304
    assert round(100 * tied.sum() / len(log), 1) == 14.1
    ids = np.array([int(catalog.items[n].id) for n in log.items])
    assert (ids[1:] > ids[:-1])[tied].all()  # so a tie has no order of time


@pytest.mark.slow
def test_real_ml_100k_counts(shared_data: Path) -> None:
    catalog, report = load_with_report("movielens", shared_data / "ml-100k")
    assert (len(catalog.users), len(catalog.items), len(catalog.events), report.rejected) == (943, 1682, 100_000, 0)
    times = catalog.interactions.times
    assert (times.min(), times.max()) == (874_724_710, 893_286_638)
    assert catalog.items[0].text == "Toy Story. Animation, Children's, Comedy. 1990s"


def test_real_lastfm_counts(shared_data: Path) -> None:
    catalog, report = load_with_report("lastfm", shared_data / "lastfm-hetrec")
    assert (len(catalog.users), len(catalog.items), len(catalog.events)) == (1892, 17_632, 92_833)
    assert (len(catalog.friends), report.rejected) == (12_717, 0)
    assert len({user for pair in catalog.friends for user in pair}) == 1892
    actions = Counter(event.action for event in catalog.events)
    assert 0.45 < actions["like"] / len(catalog.events) <= 0.5
    assert {"Röyksopp", "עברי לידר", "김종국"} <= {item.text for item in catalog.items}
