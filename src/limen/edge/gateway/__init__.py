"""The gateway: the enforcement point in front of a private network.

It ends WireGuard tunnels and lets through exactly the flows that a live grant covers. Vocabulary: a *grant
number* is the 32-bit conntrack mark of every flow that the grant opened; a *cover* is a set of overlapping
resources that share addresses and ports.

Invariants:

- No packet passes between tunnel and network, in either direction, unless its flow carries the number of a grant
  that is live in the kernel at that moment and the agent's lease has not run out.
- Expiry and lease are kernel timers: they cut when this process hangs, and nothing here can prolong a grant.
- Rules touch only packets that enter or leave by our own interface. The host's other traffic is never judged.
- Nothing in the tunnel reaches the gateway host itself.

Start with :mod:`limen.edge.gateway.machine` (what to do), then :mod:`limen.edge.gateway.ruleset` (how the kernel
does it) and :mod:`limen.edge.gateway.classify` (which grant a flow belongs to).
"""
