"""Two revisions of crmd on one store, in alternating pairs of runs."""
