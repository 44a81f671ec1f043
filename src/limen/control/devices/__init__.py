"""Devices: the agents of Limen, how they join, what they are certified as, and their channel.

Vocabulary: an *agent* is an enforcement point or a client with its own key; *enrolment* turns a one-time token
into a certified agent; a *platform agent* serves all tenants (file doors, relays), every other belongs to
exactly one. A *session* is one open agent channel. The *hub* knows all sessions of this process.

Invariants:

- An enrolment token works once, within 15 minutes, for the kind of agent that it was made for.
- An agent is its key: the SHA-256 of its SubjectPublicKeyInfo is pinned to (tenant, agent) at enrolment. A valid
  certificate alone opens nothing; key, tenant, kind and state are compared with the record at every connect.
- An agent of a tenant sends and receives only messages of that tenant.
- One session per agent; a removed agent has none.
- A lease is renewed only for an agent that has applied every change that concerned it, and only while this
  process itself follows the change feed.

Start with :mod:`limen.control.devices.rules`, then :mod:`limen.control.devices.service.hub`.
"""
