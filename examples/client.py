"""Adds jobs from code without an event loop: python client.py URL [TOKEN].

URL is the store's (redis://…, unix:///…/store.sock), or with a token the daemon's (http://…).
"""
# ruff: noqa: T201

from __future__ import annotations

import sys

from crmd import Client, NewJob

url, *rest = sys.argv[1:]

with Client(url, token=rest[0] if rest else None) as client:
    added = client.enqueue("notification", "notify", {"message": "one job"})
    done = client.wait("notification", added.key, timeout=10)
    print(done.state, done.result)

    jobs = [NewJob("notify", {"message": f"number {number}"}, key=f"many-{number}") for number in range(3)]
    print(len(client.enqueue_many("notification", jobs)), "jobs added")

    later = client.enqueue("notification", "notify", {"message": "later"}, key="later", delay=600)
    again = client.enqueue("notification", "notify", {"message": "later"}, key="later", delay=600)
    print("added:", later.created, "added again:", again.created)
    print(client.cancel("notification", "later").state)
