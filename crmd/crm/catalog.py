"""The jobs that crmd ships, by queue."""

from __future__ import annotations

from crmd.crm.features import FEATURES
from crmd.jobs import Catalog


def shipped_catalog() -> Catalog:
    """A new catalog with the shipped jobs, to which the configuration's own handlers may be added.

    It imports the jobs of a queue when one of them is asked for, or by `load`.
    """
    catalog = Catalog()
    for feature in FEATURES:
        for queue, references in feature.jobs.items():
            for reference in references:
                catalog.add_late(queue, reference)
    return catalog
