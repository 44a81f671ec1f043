"""The file door: SFTP in front of customers' buckets and folders, opened by grants and by nothing else.

Vocabulary: a *session* is one authenticated SSH connection; it lives under exactly one *grant*; a *jail* is the
part of a bucket that the grant opens; an *upload* becomes an object only when the client closes its handle.

Invariants:

- No path reaches storage except as a :class:`~limen.edge.sftp.jail.JailedPath`.
- No session without a live grant and a live lease of the agent channel; either ending cuts the connection.
- No byte of a file is written to this host's disk on its way to a bucket.
- An upload that was not closed by the client leaves nothing behind.
- Nothing that a storage server says reaches the SFTP client raw.

Where to start: ``door`` (composition, agent channel), then ``machine`` (grants and sessions, sans-IO), ``jail``,
``files`` (what each SFTP request means), ``storage`` (folder and S3 behind one port), ``ssh`` (asyncssh at the rim).
"""
