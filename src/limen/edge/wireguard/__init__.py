"""WireGuard on this host, shared by the gateway and the client: the tunnel, its links and routes, its keys.

Vocabulary: *interface*, *peer*, *allowed_ips* and *endpoint* are WireGuard's words. A *back end* implements
:class:`limen.edge.wireguard.ports.WireGuard`; today there is one, wireguard-go as a child process.

Invariants:

- Interface names are unique per agent, not only per network namespace: the control sockets of wireguard-go
  live in the file system, which namespaces share.
- A private key is made on this host and leaves it never; only the back end sees it.
- The tunnel process dies with the process that started it, however that one dies.
"""
