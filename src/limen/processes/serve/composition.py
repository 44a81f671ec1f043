"""Builds the control plane out of its rooms. The only place that knows them all."""

from dataclasses import dataclass

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from limen.api.access import SessionAuthenticator
from limen.api.app import AppSettings, create_app
from limen.api.health import database_check
from limen.api.hosts import HostRules
from limen.console.app import console_app
from limen.console.live import OpenPages
from limen.console.pages import Desk
from limen.control.audit.checkpoint_file import CheckpointFile
from limen.control.audit.endpoints import router as audit_router
from limen.control.audit.export import Exporter
from limen.control.audit.sealer import Sealer
from limen.control.audit.tasks import SealingJob
from limen.control.custody.service import CustodyFieldCipher, KeydClient
from limen.control.devices.endpoints import authorities_route
from limen.control.devices.endpoints import router as devices_router
from limen.control.devices.service import (
    AgentHub,
    AgentRegistry,
    ChannelServer,
    EnrolmentService,
    ServerAddress,
)
from limen.control.files.agents import FileAgents
from limen.control.files.endpoints import router as files_router
from limen.control.files.service import ConnectionService, FileSignIn, SftpUserService
from limen.control.grants.feed import ChangeFeed
from limen.control.grants.service import GrantLedger
from limen.control.identity.adapters.session_keys import CustodySessionKeys
from limen.control.identity.endpoints import routers as identity_routers
from limen.control.identity.service import IdentityService
from limen.control.network.service import ClientHandler, GatewayHandler, Openings
from limen.control.policy.endpoints import grants_router, policy_router
from limen.control.policy.service import PolicyAdministrator, PolicyService
from limen.control.resources.endpoints import router as resources_router
from limen.control.resources.service import ResourcesService
from limen.control.tenancy.endpoints import router as tenancy_router
from limen.control.tenancy.service import TenancyService
from limen.control.vault.dialect.app import vault_app
from limen.control.vault.endpoints import router as vault_router
from limen.control.vault.service import VaultService, WorkloadService, compose_vault
from limen.db.database import Database
from limen.kernel.clock import Clock
from limen.processes.serve.adapters import CheckpointSigner, ConsoleGate, Subjects, TenantBirth
from limen.processes.serve.settings import ServeSettings
from limen.runtime.http import SecureRouter
from limen.wire.agent import AgentKind
from limen.wire.keyd import Authorities

VAULT_BODY_LIMIT = 8 << 20


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Everything that runs in one ``limen serve``."""

    database: Database
    keyd: KeydClient
    cipher: CustodyFieldCipher
    clock: Clock
    feed: ChangeFeed
    pages: OpenPages
    hub: AgentHub
    channel: ChannelServer
    ledger: GrantLedger
    resources: ResourcesService
    policies: PolicyService
    administrator: PolicyAdministrator
    subjects: Subjects
    identity: IdentityService
    tenancy: TenancyService
    registry: AgentRegistry
    enrolment: EnrolmentService
    vault: VaultService
    connections: ConnectionService
    sftp_users: SftpUserService
    exporter: Exporter
    sealing: SealingJob


def compose(
    settings: ServeSettings,
    database: Database,
    cipher: CustodyFieldCipher,
    keyd: KeydClient,
    clock: Clock,
    trust: bytes,
) -> ControlPlane:
    """Join the rooms. ``trust`` is the PEM by which agents verify this server."""
    ledger = GrantLedger(clock)
    resources = ResourcesService(clock)
    workloads = WorkloadService(database, clock)
    identity = IdentityService(database, clock, CustodySessionKeys(keyd))
    feed = ChangeFeed(database)
    hub = AgentHub(feed.is_current)
    registry = AgentRegistry(database, keyd, hub, clock)
    subjects = Subjects(identity, workloads, registry)
    policies = PolicyService(resources, subjects, clock)
    administrator = PolicyAdministrator(database, ledger, resources, subjects, clock)
    tenancy = TenancyService(database, clock, keyd, identity, [TenantBirth(identity, policies)])
    vault = compose_vault(database, cipher, administrator, keyd, clock)
    signer = CheckpointSigner(keyd)
    sealer = Sealer(database, signer, clock)

    identity.open(ConsoleGate(administrator, resources), tenancy)
    administrator.add_ender(identity)
    administrator.add_ender(vault.tokens)
    database.fact_hook = administrator.redecide
    openings = Openings()
    hub.register(AgentKind.GATEWAY, GatewayHandler(database, ledger, resources, registry, hub, openings))
    sign_in = FileSignIn(database, identity, administrator, ledger, keyd, clock)
    hub.register(AgentKind.SFTP, FileAgents(database, sign_in, ledger, clock))
    hub.register(AgentKind.CLIENT, ClientHandler(database, administrator, ledger, resources, hub, openings))
    feed.subscribe(hub.dispatch)
    pages = OpenPages()
    feed.subscribe(pages.dispatch)
    ledger.watchers.append(pages.touch)
    return ControlPlane(
        database=database,
        keyd=keyd,
        cipher=cipher,
        clock=clock,
        feed=feed,
        pages=pages,
        hub=hub,
        channel=ChannelServer(hub, registry, clock),
        ledger=ledger,
        resources=resources,
        policies=policies,
        administrator=administrator,
        subjects=subjects,
        identity=identity,
        tenancy=tenancy,
        registry=registry,
        enrolment=EnrolmentService(database, keyd, ServerAddress(settings.url, settings.channel_url, trust), clock),
        vault=vault,
        connections=ConnectionService(database, resources, keyd, clock),
        sftp_users=SftpUserService(database, identity, clock),
        exporter=Exporter(database, sealer, signer, clock),
        sealing=SealingJob(database, sealer, CheckpointFile(settings.state / "checkpoints.jsonl")),
    )


def routers(plane: ControlPlane) -> list[SecureRouter]:
    """Every router of the JSON API."""
    return [
        tenancy_router(plane.tenancy),
        *identity_routers(plane.identity),
        devices_router(plane.enrolment, plane.registry, plane.hub),
        resources_router(plane.database, plane.resources),
        policy_router(plane.database, plane.policies, plane.administrator),
        grants_router(plane.database, plane.ledger, plane.administrator, plane.resources, plane.subjects),
        files_router(plane.connections, plane.sftp_users),
        vault_router(plane.vault),
        audit_router(plane.database, plane.exporter),
    ]


def application(settings: ServeSettings, plane: ControlPlane, authorities: Authorities, trust: bytes) -> ASGIApp:
    """The ASGI application of the public port."""
    routes: list[BaseRoute] = [authorities_route(trust)]
    return create_app(
        AppSettings(
            hosts=HostRules(settings.base_domain, frozenset(name.lower() for name in settings.names)),
            # The Vault dialect has a limit and error bodies of its own.
            body_limits={"/v1/": VAULT_BODY_LIMIT},
        ),
        SessionAuthenticator(plane.identity, plane.tenancy),
        routers(plane),
        health={"database": database_check(plane.database), "keyd": plane.keyd.health},
        routes=routes,
        mounts=[("/v1", vault_app(plane.vault, plane.clock)), ("", console(plane))],
    )


def console(plane: ControlPlane) -> ASGIApp:
    """The pages for people."""
    desk = Desk(
        database=plane.database,
        clock=plane.clock,
        identity=plane.identity,
        tenancy=plane.tenancy,
        ledger=plane.ledger,
        resources=plane.resources,
        subjects=plane.subjects,
        registry=plane.registry,
        hub=plane.hub,
    )
    return console_app(desk, plane.pages, plane.feed)
