"""The Python side of a trial: `python -m bench.trials PEER TASK URL OPTIONS`. `bench/node` is its twin."""
