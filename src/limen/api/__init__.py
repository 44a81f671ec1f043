"""The HTTP front of the control plane: one ASGI application, one TLS server.

A thin shell: it mounts the rooms' routers, says who is asking, and renders every error as an RFC 9457 problem
document. It decides nothing. Start with :mod:`.app`; :mod:`.access` is what stands between a request and a route.
"""
