"""The policy engine: pure evaluation of typed policies over facts.

Vocabulary: a *policy* joins principals (a person, a workload or a group) to resources for a set of actions under
typed *conditions*, with the effect allow or deny. A *request* is one subject asking for actions on one resource
in an environment.

Invariants: default deny; an explicit deny wins; a subject that is inactive or blocked is denied before any policy
is read; a decision expires at the earliest instant at which time alone could turn it.

Start with :func:`limen.engine.decide.decide`; :mod:`limen.engine.conditions` holds the closed set of conditions.
"""
