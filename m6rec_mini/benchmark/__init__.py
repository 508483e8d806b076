"""The benchmark: `run_benchmark` trains everything, and tells what came out. Start reading at `run`."""

from m6rec_mini.benchmark.run import run_benchmark as run_benchmark
