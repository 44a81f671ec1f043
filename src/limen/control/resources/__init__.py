"""Resources: what can be reached. Sites, network resources, bucket connections, vault mounts.

Vocabulary: a *resource* has a kind and, with it, one door; its *attributes* say what the door opens. The console
of a tenant is a resource too, made with the tenant and never removed.

Invariants: a resource belongs to one tenant; names are unique within their kind; a network resource never covers
loopback, link-local or multicast addresses; a change of a resource is a change of a fact.

Start with :mod:`limen.control.resources.rules`.
"""
