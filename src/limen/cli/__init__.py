"""The command line for people and automation. It speaks HTTP only and holds no rule of its own.

Vocabulary: a *profile* is a server, the authority that its certificate must come from, and a session there; a
*command* is one entry of a table (:mod:`limen.cli.command`) whose function gets a :class:`limen.cli.run.Run`.

Rules: results go to standard output, everything else to standard error; a secret that is shown once stands alone on
standard output; no secret has to be an argument; an error is one line that says what to do next (exit status 1, or 2
when the command line itself is wrong); nothing that a server sends can steer the terminal.
"""
