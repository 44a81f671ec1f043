"""Grants: the ledger of what is open, the blocks that keep a cut access cut, receipts, and the change feed.

Vocabulary: a *grant* is live until it is revoked (a fact changed, or a person cut it), expired (its absolute time
came) or ended (the subject closed it). A *block* denies a subject everything (suspension) or one resource (after a
revocation) until it is lifted. A *receipt* is an enforcement point's word that a grant is cut.

Invariants:

- a grant leaves ``live`` exactly once, and every leaving is in the audit trail;
- revocations are written while the tenant's version row is locked, so the outbox names each exactly once;
- a receipt is taken only from the agent that holds the grant.

This room decides nothing: :mod:`limen.control.policy` does.
"""
