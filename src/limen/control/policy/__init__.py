"""Policy: policies as data, and the policy administrator (NIST SP 800-207) that turns decisions into grants.

Vocabulary: the *engine* (:mod:`limen.engine`) decides and knows nothing of storage; the *administrator* loads the
facts, asks the engine, writes grants, and, when a fact changes, decides every grant that rests on it again.

Invariants (each guarded by a property test):

- no grant without a decision, no decision without an audit record;
- a grant is issued while the tenant's version row is locked, on facts read under that lock: none is stale;
- when a fact changes, re-decision runs in the same transaction, so access and its reason end with one commit;
- a subject that was suspended or revoked stays denied until the block is lifted.

Start with :mod:`limen.control.policy.administrator`, then :mod:`limen.control.policy.rules`.
"""
