"""Where catalogs come from: the embedded world, public data sets by path, and your own folder.

One idea: a data set is a name. `load("movielens", path)` gives a `Catalog` whatever the files look
like, so nothing behind this door knows where items and events came from. `SOURCES` tells people
what each name is, who published it and under which terms. Two of them are no catalogs: the logs of
`open_bandit` and the recordings of `fsdd` have a loader of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m6rec_mini.catalog import Catalog, DataError
from m6rec_mini.datasets import fsdd, lastfm, movielens, open_bandit
from m6rec_mini.datasets.folder import load_folder
from m6rec_mini.datasets.records import OnBad, Report
from m6rec_mini.datasets.sources import Source
from m6rec_mini.datasets.world import WorldConfig, make_world

WORLD = Source(
    name="world",
    about="a made-up open-domain world whose truth is known; not real data; needs no path",
    publisher="part of this package, made when it is asked for",
    licence="Apache-2.0",
)
FOLDER = Source(
    name="folder",
    about="your own items and events, as JSONL, CSV, Parquet or RecBole's atomic files, with media as files",
    publisher="you",
    licence="yours",
)
SOURCES: dict[str, Source] = {
    source.name: source for source in (WORLD, movielens.SOURCE, lastfm.SOURCE, FOLDER, open_bandit.SOURCE, fsdd.SOURCE)
}
CATALOGS = tuple(source.name for source in SOURCES.values() if source.is_catalog)


def load(name: str, path: Path | None = None, *, bad: OnBad = "strict", **options: Any) -> Catalog:
    """The catalog of a name in `CATALOGS`, read from `path`; see `load_with_report`."""
    return load_with_report(name, path, bad=bad, **options)[0]


def load_with_report(
    name: str, path: Path | None = None, *, bad: OnBad = "strict", **options: Any
) -> tuple[Catalog, Report]:
    """A catalog, and the report of what was read and what was rejected.

    Options go to the loader: `WorldConfig`'s fields for world, `tags` and `image_size` for
    movielens, `limit`, `max_side` and `max_seconds` for folder. Raises DataError for an unknown
    name, a path that is missing or holds something else, and, with bad="strict", bad records.
    """
    if name not in CATALOGS:
        raise DataError(_no_catalog(name))
    if name == "world":
        if path is not None:
            raise DataError(f"world is made, not read, but a path was given: {path}; leave it out, or name the data")
        return make_world(WorldConfig(**options)).catalog, Report()
    if name == "folder":
        if path is None:
            raise DataError("folder needs the path of a folder with items.jsonl and events.jsonl (or .csv, .parquet)")
        return load_folder(path, bad, **options)
    report, loader = Report(), {"movielens": movielens.load, "lastfm": lastfm.load}[name]
    path = SOURCES[name].folder(path)
    return loader(path, bad=bad, report=report, **options), report


def _no_catalog(name: str) -> str:
    if name in SOURCES:
        return f"{name} has no items with histories; read it with m6rec_mini.datasets.{name}.load"
    return f"no data set is called {name!r}; expected one of {', '.join(CATALOGS)}"
