"""Files: connections to buckets, SFTP users with their keys, sign-in at the file door, and its audit trail.

Vocabulary: a *connection* is a resource of kind bucket with a place and a storage credential; its *slug* is the last
part of an SSH user name ``<user>.<slug>``. An *SFTP user* is a person's way into one connection: a name, a *jail*
(prefix), a narrowing of actions, an optional password and any number of SSH keys. The *file agent* (``limen sftp``)
serves all tenants; every message of it names a tenant, and every object it names must be that tenant's.

Invariants:

- A storage credential arrives sealed to key custody and leaves sealed to the agent that holds the grant; this process
  cannot read it.
- A sign-in opens nothing by itself: it asks the policy administrator for a grant, which may be a part of what was
  asked for or nothing.
- A credential that is removed or changed ends the grants that were issued through it.
- The SSH client learns no reason of a refusal; the audit trail does.

Where to start: ``service.sign_in`` (from a name on the wire to a grant), then ``agents`` (the channel).
"""
