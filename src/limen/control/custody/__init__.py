"""Custody: the control plane's side of key custody.

Purpose: everything in the control plane that needs a key asks here, and gets either a *lease* (a data key
of a tenant for five minutes) or an answer of keyd, the process that holds the keys.

Vocabulary: *lease* - permission to keep a data key in memory until a fixed moment; *cell* - the place a
value is sealed for; *tag* - the keyed hash by which equal values are found.

Invariants: a lease that has run out is never used (fail closed, ``Unavailable``); purposes ``vault`` and
``storage`` are never leased; the key that opens a stored bucket credential never reaches this process.

Start with :mod:`service`; :mod:`model` holds what a lease can do, :mod:`channel` the socket to keyd.
"""
