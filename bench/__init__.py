"""Measures crmd beside its peers, on one server in one run. Only the ratios mean something: machines are noisy."""
