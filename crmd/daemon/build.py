"""The composition root: the only module that knows all parts, and builds them from the configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.console.life import Life
from crmd.console.served_queues import ServedQueues
from crmd.crm.catalog import shipped_catalog
from crmd.crm.notifications.alerts import Alerts
from crmd.daemon.credentials import ensure_password
from crmd.daemon.http import build_http
from crmd.daemon.late_resources import LateResources, need_features
from crmd.daemon.loop_watch import LoopWatch
from crmd.daemon.systemd import Systemd
from crmd.embedded.server import EmbeddedStore
from crmd.embedded.state_folder import StateDir
from crmd.engine.admin.assembly import EngineAdmin
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.maintenance.scheduler import Scheduler
from crmd.engine.pool import PoolParts, WorkerPool
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.errors import ConfigError, InvalidPayload, Problem, UnknownJob
from crmd.http.server import HttpServer
from crmd.jobs import Catalog
from crmd.telemetry.events import Events
from crmd.telemetry.metrics import Metrics
from crmd.version import __version__


@dataclass(slots=True)
class CurrentSettings:
    """The settings that apply now: a reload sets others."""

    settings: Settings


@dataclass(slots=True)
class Daemon:
    """The parts of one daemon, built and not started."""

    settings: Settings
    """Those of the start: a reload changes what can change in the parts."""
    embedded: EmbeddedStore | None
    store: Store
    registry: SettingsRegistry
    control: Control
    pool: WorkerPool
    scheduler: Scheduler
    alerts: Alerts
    resources: LateResources
    queues: ServedQueues
    health: QueueHealth
    current: CurrentSettings
    only: Sequence[str] | None
    """Queues that this daemon runs; None for all."""
    life: Life
    watch: LoopWatch
    web: HttpServer | None


async def build(
    loaded: Loaded,
    state: StateDir,
    systemd: Systemd,
    events: Events,
    embedded: EmbeddedStore | None,
    only: Sequence[str] | None,
) -> Daemon:
    """Builds the daemon; the state folder is locked, the embedded store prepared. Raises ConfigError."""
    settings = loaded.settings
    metrics = Metrics(__version__)
    events.subscribe(metrics.observe)
    password = ensure_password(loaded)
    url = embedded.url if embedded else settings.redis.url.get_secret_value()
    store = Store(StoreTarget(url), events)
    if embedded:
        store.why_unavailable = lambda: embedded.last_error
    registry = SettingsRegistry(settings.queue_settings(), settings.schedule_settings())
    admin = EngineAdmin(store, registry)
    inspector, control = admin.inspector, admin.control
    catalog = build_catalog(loaded)
    for queue in registry.queues if only is None else only:
        catalog.load(queue)
    resources = LateResources(store, inspector, events)
    clients = await resources.configure(
        loaded, needed=need_features(loaded, registry.queues if only is None else only)
    )
    pool = WorkerPool(
        PoolParts(
            store=store,
            control=control,
            registry=registry,
            catalog=catalog,
            host_id=state.host_id,
            files=state,
            make_worker=SaqWorker,
            resources=clients,
            only=only,
        )
    )
    life = Life(version=__version__)
    watch = LoopWatch(metrics.loop_lag)
    served = ServedQueues(
        registry,
        catalog,
        sources=loaded.sources,
        run_elsewhere=run_elsewhere(registry.queues, only),
        unconfigured=settings.unconfigured(),
        degraded=lambda: pool.degraded,
    )
    health = QueueHealth(
        inspector,
        run_elsewhere=lambda: served.run_elsewhere,
        degraded=served.degraded,
        uptime_seconds=life.uptime_seconds,
    )
    current = CurrentSettings(settings)
    web = None
    if settings.http.port is not None:
        web = build_http(
            settings.http,
            settings.auth,
            password.value,
            life=life,
            queues=served,
            health=health,
            control=control,
            schedules=admin.schedules,
            clients=resources.for_routes,
            endpoints=lambda: current.settings.webhook.endpoints,
            whatsapp=lambda: current.settings.whatsapp,
            metrics=metrics,
            listen_socket=systemd.sockets[0] if systemd.sockets else None,
        )
    return Daemon(
        settings=settings,
        embedded=embedded,
        store=store,
        registry=registry,
        control=control,
        pool=pool,
        scheduler=Scheduler(control, registry),
        alerts=Alerts(control, settings.notify.alerts),
        resources=resources,
        queues=served,
        health=health,
        current=current,
        only=only,
        life=life,
        watch=watch,
        web=web,
    )


def run_elsewhere(queues: Iterable[str], only: Sequence[str] | None) -> dict[str, str]:
    """The queues whose jobs only other daemons run, and why."""
    return {} if only is None else {name: "other daemons run it" for name in queues if name not in only}


def build_catalog(loaded: Loaded) -> Catalog:
    """The shipped jobs and the configuration's own.

    Raises ConfigError for handlers that cannot be imported, and for schedules of jobs that are none of these.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # handlers lie beside the configuration, as for any job system
    catalog = shipped_catalog()
    problems = []
    for name, queue in loaded.settings.queue_settings().items():
        for reference in queue.handlers:
            try:
                catalog.add_reference(name, reference)
            except ValueError as error:
                source = str(loaded.path) if loaded.path else "configuration"
                problems.append(Problem(source, f"queues.{name}.handlers", str(error)))
    # A handler that is missing would make its schedules look wrong.
    problems = problems or list(_schedule_mistakes(loaded, catalog))
    if problems:
        raise ConfigError(problems)
    return catalog


def _schedule_mistakes(loaded: Loaded, catalog: Catalog) -> Iterator[Problem]:
    """The schedules whose job is not known to its queue, or does not take the payload."""
    for name, table in loaded.settings.schedules.items():
        configured = any(key.startswith(f"schedules.{name}.") for key in loaded.sources)
        if not configured and not catalog.is_imported(table.queue, table.job):
            continue  # schedule and job as they were shipped
        source = loaded.sources.get(f"schedules.{name}.job", str(loaded.path or "configuration"))
        try:
            if table.enabled:
                catalog.get(table.queue, table.job).validate(table.payload)
        except UnknownJob as error:
            yield Problem(source, f"schedules.{name}.job", str(error))
        except InvalidPayload as error:
            yield Problem(source, f"schedules.{name}.payload", str(error))
