"""Packages that a user would pick instead, on the same split and judged by the same harness.

    python benchmarks/peers.py --path DATA --out FOLDER --venv ENVIRONMENTS

makes an environment for each package (pinned, since old ones need an old NumPy), hands it our
training events and histories, and takes the ranks from the scores that it gives back. The setting is
chosen by NDCG@10 on the validation cases. Results lie beside those of `m6rec benchmark` in
FOLDER/jobs, and the next run of that command with the same `--out` puts them into its tables; the
numbers alone are in FOLDER/peers.json. What is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

from m6rec_mini.benchmark.jobs import Data, Result
from m6rec_mini.evaluation import Cases, Evaluation, Split, evaluate, leave_one_out

# implicit has wheels for NumPy 2. RecTools asks for NumPy 1 and brings its own fork of implicit: two environments.
PINS = {
    "implicit": ["implicit==0.7.3", "numpy==2.4.6", "scipy==1.17.1"],
    "rectools": ["torch==2.13.0", "rectools[torch]==0.19.0", "numpy==1.26.4", "pytorch-lightning==2.5.2"],
}
PEERS = {
    "implicit ALS": ("als", "implicit"),
    "implicit BPR": ("bpr", "implicit"),
    "RecTools SASRec": ("sasrec", "rectools"),
}
WORKER = Path(__file__).with_name("peer_models.py")


def main() -> None:
    """Parse, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, help="folder of the data set")
    parser.add_argument("--data", default="movielens", help="its name, as for m6rec train")
    parser.add_argument("--out", type=Path, required=True, help="the folder that `m6rec benchmark --out` has")
    parser.add_argument("--venv", type=Path, required=True, help="folder for the environments; they are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke test: hardly any training, one seed")
    parser.add_argument("--only", choices=list(PEERS), action="append", help="one of the packages; may be repeated")
    arguments = parser.parse_args()
    data = Data(arguments.data, arguments.path, arguments.quick)
    split = leave_one_out(data.catalog().interactions)
    for name in arguments.only or PEERS:
        for seed in range(1 if arguments.quick else arguments.seeds):
            file = arguments.out / "jobs" / f"peer-{name.replace(' ', '-').lower()}-{seed}.npz"
            if not file.exists():
                result = run_peer(name, seed, split, data, arguments.venv.resolve())
                result.save(file)
    summary = {file.stem: told(Result.load(file)[0]) for file in sorted((arguments.out / "jobs").glob("peer-*.npz"))}
    (arguments.out / "peers.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


def run_peer(name: str, seed: int, split: Split, data: Data, environments: Path) -> Result:
    """Train it there, judge it here; what cannot be installed or fails is a result too."""
    model, package = PEERS[name]
    facts: dict[str, Any] = {"name": name, "seed": seed, "data": [data.name, data.quick]}
    facts["versions"] = ", ".join(PINS[package])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        write_split(split, data.quick, out / "split.npz")
        try:
            python = environment(package, environments)
            run([python, WORKER, model, seed, out / "split.npz", out])
        except subprocess.CalledProcessError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            return Result({}, {**facts, "setting": f"failed: {error}"})
        chosen, evaluation = choose(sorted(out.glob("[0-9]*.npz")), split)
    return Result({"test": evaluation}, facts | chosen)


def environment(package: str, folder: Path) -> Path:
    """Python of the package's environment, made if it is not there."""
    home = folder / package
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "ready").exists():
        venv.create(home, clear=True, with_pip=True)
        run([python, "-m", "pip", "install", *PINS[package]])
        (home / "ready").touch()
    return python


def run(command: list[object]) -> None:
    """Run on one thread, and show what it says; raises CalledProcessError if it fails."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], check=True, env=clean | threads, stdout=sys.stderr)


def write_split(split: Split, quick: bool, file: Path) -> None:
    """Training events and histories, but no target."""
    arrays: dict[str, Any] = {
        "train_users": split.train.users,
        "train_items": split.train.items,
        "num_users": split.train.num_users,
        "num_items": split.train.num_items,
        "quick": quick,
    }
    for name, cases in (("validation", split.validation), ("test", split.test)):
        lengths = [len(history) for history in cases.histories]
        arrays[f"{name}_users"] = cases.users
        arrays[f"{name}_rows"] = np.repeat(np.arange(len(cases)), lengths)
        arrays[f"{name}_items"] = np.concatenate([history.items for history in cases.histories])
    np.savez(file, **arrays)


def choose(files: list[Path], split: Split) -> tuple[dict[str, Any], Evaluation]:
    """The setting with the best NDCG@10 on validation, and what it does on test."""

    def judged(file: Path, name: str, cases: Cases) -> Evaluation:
        with np.load(file) as arrays:
            return evaluate(arrays[name], cases, split.train)

    values = {file: judged(file, "validation", split.validation).mean("ndcg@10") for file in files}
    best = max(values, key=lambda file: values[file])
    with np.load(best) as arrays:
        facts: dict[str, Any] = {name: arrays[name].item() for name in ("setting", "versions", "seconds")}
    return {**facts, "validation ndcg@10": values[best]}, judged(best, "test", split.test)


def told(result: Result) -> dict[str, Any]:
    """The numbers of one run, for people."""
    numbers = {name: value for evaluation in result.rows.values() for name, value in evaluation.summary().items()}
    return {**result.facts, **{name: None if np.isnan(value) else value for name, value in numbers.items()}}


if __name__ == "__main__":
    main()
