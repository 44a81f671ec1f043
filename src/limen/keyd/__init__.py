"""keyd, the key custody daemon: the only process that holds keys which open what is stored.

Purpose: a compromised control plane can ask keyd for what it may ask, while it is compromised, and every
question is on record; it cannot walk away with key-encryption keys, tenant keys, authority keys or stored
bucket credentials.

Vocabulary (NIST SP 800-57): *key backend* - where the key-encryption key (KEK) lives; *tenant key* -
random, wrapped by the backend; *data key* - random, one chain per tenant and purpose, wrapped under the
tenant key; *keystore* - the directory of wrapped keys and enrolment records; *lease* - a data key lent for
five minutes; *authority* - a certificate authority.

Invariants: every key is random and wrapped, none is derived from another; wrapped keys are bound to
(tenant, purpose, key id, parent); no reply holds a KEK, a tenant key or a private authority or signing key;
no plaintext leaves before its call is in the call log; keyd imports nothing of ``control`` and ``db``.

Where to start: :mod:`service` (what each request does), :mod:`hierarchy` (tenant and data keys),
:mod:`server` (the socket). ``docs/security/custody.md`` is the picture.
"""
