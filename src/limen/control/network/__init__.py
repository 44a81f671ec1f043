"""The network door's control side: what gateways and clients are told, and what they report.

Vocabulary: a *session set-up* joins a client to a gateway for one resource under one grant; the gateway has opened the
grant before the client learns of it.

Invariants:

- a client acts for exactly the person who enrolled it, through exactly that device;
- a grant is pushed to the gateway that it names and to no other; a message about a grant is taken only from that
  gateway;
- every failure has a name that the client can show, and a fix.

Start with :mod:`limen.control.network.service`.
"""
