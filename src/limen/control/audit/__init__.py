"""The audit trail: who did what, when, from where and how it came out, in a form nobody can quietly rewrite.

Vocabulary:

* *event* - what a use case reports (:class:`model.AuditEvent`);
* *record* - an event as it was written down, with its id and time;
* *leaf* - the canonical bytes of a record: tenant, id, time, action, and one salted commitment for each
  field;
* *values* - what the commitments hide, with their salts, in a side table: erasing there leaves every proof
  valid;
* *pending* - an entry for every leaf that no seal covers yet;
* *seal* - a batch of one tenant's leaves under one RFC 6962 root, chained to the tenant's previous seal;
* *checkpoint* - one root over the seals made together, chained to the previous checkpoint and signed by keyd.

Invariants:

1. A record is written in the transaction of the change that it records; so is its pending entry.
2. A leaf, a seal and a checkpoint are never updated or deleted: the database role has no such privilege.
3. No address of a person or device and no personal detail is stored in the clear.
4. Each leaf is in exactly one seal, each seal in exactly one checkpoint; the numbers of a tenant's seals
and of
   checkpoints have no gaps.
5. The checkpoint file outside the database is always a beginning of the chain in the database.

Start with :mod:`rules.leaf` (the record) and :mod:`rules.chain` (seals and checkpoints); the byte formats
and what the stand-alone verifier can and cannot find out are in ``docs/audit-format.md``.
"""
