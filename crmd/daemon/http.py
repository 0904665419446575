"""Builds the HTTP server: every group of routes gets what it uses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from crmd.config.tables import AuthTable, EndpointTable, HttpTable, WhatsAppTable
from crmd.console.bulk import BulkApi
from crmd.console.events import EventsApi
from crmd.console.health import HealthApi
from crmd.console.jobs import JobApi
from crmd.console.life import Life
from crmd.console.pages import QueuePages
from crmd.console.queues import QueueApi
from crmd.console.schedules import ScheduleApi
from crmd.console.served_queues import ServedQueues
from crmd.crm import features
from crmd.crm.api import ApiParts
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.admin.schedules import Schedules
from crmd.http.connections import Connections, affordable_connections, affordable_lingering
from crmd.http.late_routes import LateRoutes
from crmd.http.long_requests import LongRequests
from crmd.http.openapi import Description
from crmd.http.peers import Peers
from crmd.http.routes import Route
from crmd.http.server import HttpServer
from crmd.telemetry.metrics import Metrics


def build_http(
    http: HttpTable,
    auth: AuthTable,
    password: str,
    *,
    life: Life,
    queues: ServedQueues,
    health: QueueHealth,
    control: Control,
    schedules: Schedules,
    clients: Callable[[], Awaitable[Mapping[type, Any]]],
    endpoints: Callable[[], Mapping[str, EndpointTable]],
    whatsapp: Callable[[], WhatsAppTable],
    metrics: Metrics,
    listen_socket: socket.socket | None = None,
) -> HttpServer:
    """The server, not yet started.

    `clients` returns those of handlers, by class; `endpoints` and `whatsapp` return the current configuration.
    """
    peers = Peers(http.trusted_proxies)
    connections = Connections(peers, most=affordable_connections(), most_lingering=affordable_lingering())
    long_requests = LongRequests(connections)
    inspector, prefix = control.inspector, http.base_path
    jobs = JobApi(queues, inspector, control, health, long_requests, prefix)
    groups = (
        HealthApi(life, health, control.store, metrics),
        BulkApi(queues, control, health, long_requests),
        QueueApi(queues, inspector, control, health),
        jobs,
        ScheduleApi(schedules),
        EventsApi(health, long_requests),
        QueuePages(queues, inspector, control, health, prefix),
    )
    routes = [route for group in groups for route in group.routes()]

    async def make_routes(reference: str) -> Sequence[Route]:
        """Imports a feature's routes beside the event loop, and makes them."""
        given = await clients()
        make = await asyncio.to_thread(features.load, reference)
        made: Sequence[Route] = make(ApiParts(control, given, endpoints, whatsapp, metrics, peers, prefix))
        return made

    late = [LateRoutes(path, partial(make_routes, reference)) for path, reference in features.routes().items()]
    return HttpServer(
        http,
        auth,
        password,
        [*routes, *Description(routes, late, prefix, life.version).routes()],
        late,
        peers=peers,
        connections=connections,
        long_requests=long_requests,
        metrics=metrics,
        cleanup=[jobs.stop],
        listen_socket=listen_socket,
    )
