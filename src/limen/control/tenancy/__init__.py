"""Tenants and the platform operators who open them.

Vocabulary: a *tenant* is one customer's space, addressed by its *slug* (host label ``<slug>.<base domain>``);
an *operator* runs the platform, opens tenants and sees nothing inside them.

Rules:
- a slug is a DNS label, never reused while its tenant exists, never one of the reserved labels;
- opening a tenant is one transaction: row, built-in objects, the owner's link and the audit record, or nothing;
- the owner's set-up link is returned once and never stored in clear;
- an operator's token is 256 random bits, kept as a SHA-256 hash.

Start with :mod:`.service`.
"""
