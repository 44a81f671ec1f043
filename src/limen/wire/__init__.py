"""Versioned messages between the planes, and nothing else: no I/O, no decisions.

``agent`` is the channel between the control plane and its enforcement points, ``keyd`` the calls to the key
custody daemon. Every message is a frozen struct that refuses unknown fields; decoding bad input raises
:class:`limen.kernel.errors.Malformed`.
"""
