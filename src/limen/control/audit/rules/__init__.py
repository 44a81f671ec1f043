"""Pure rules of the audit trail: the bytes of a leaf (:mod:`leaf`), of seals and checkpoints (:mod:`chain`).

Every byte here is promised to customers who verify exports offline. A format is never changed, only
followed by a new one with a new first piece; ``docs/audit-format.md`` has the golden vectors.
"""
