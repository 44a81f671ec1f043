"""The client: the user's side of the tunnel.

It opens nothing by itself. Routes to reachable resources point at a *trap*, a TUN device of ours; the first packet
that arrives there is a question to the control plane. When the answer is yes, the route moves to the tunnel and the
packet goes on its way; when it is no, the program that sent it is told at once.

Vocabulary: a *wanted* resource is the one that a packet is for; *covering* resources are all whose prefix holds its
destination; a *held* packet waits for an answer.

Invariants:

- Held packets are bounded in number, bytes and time, and are never stored elsewhere.
- A route leads into the tunnel only while a grant that covers the whole of its prefix is live.
- The client decides nothing: a route into the tunnel without a grant at the gateway leads to a refusal.

Start with :mod:`limen.edge.client.machine`.
"""
