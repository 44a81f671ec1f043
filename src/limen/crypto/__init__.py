"""Cryptographic building blocks with fixed formats: pure functions and values, no I/O, no key storage.

* :mod:`aead` - the blob format of every sealed value and wrapped key (golden vectors fix it).
* :mod:`envelope` - a data key of its own for each secret version, kept beside the value.
* :mod:`sealing` - to a public key (HPKE), bound to a context.
* :mod:`signatures` - Ed25519, each signature bound to one purpose.
* :mod:`commitments` - salted commitments and keyed tags.
* :mod:`merkle` - the RFC 6962 hash tree with inclusion and consistency proofs.

Rules: the primitives come from ``cryptography`` and the standard library only; a failed check raises and
never returns a bool; every hashed or authenticated structure is length-prefixed (:mod:`encoding`), so that
two different structures can never have the same bytes; an error never says *why* a ciphertext did not open.
"""
