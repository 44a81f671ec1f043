"""Who people are: people, groups, passwords, sessions, throttling of sign-in.

Vocabulary: a *person* belongs to one tenant and has one *role*; a *session* is one sign-in of one person and a
credential that grants rest on; a *group* is what policies name; *everyone* is the built-in group.

Rules:
- nothing is keyed on an e-mail address: the address finds the person once, at sign-in, by HMAC equality;
- attempts are counted before the password is hashed, so neither guessing in parallel nor overloading pays;
- a wrong account and a wrong password cost the same and answer the same;
- a session exists only with a live console grant, decided in the transaction that creates it;
- every request reads the session's row, the person's state and the grant: revocation needs no cache to expire;
- whatever ends sessions says so as a changed fact, so that every grant that rests on them ends too.

Start with :mod:`.rules`, then :mod:`.service`.
"""
