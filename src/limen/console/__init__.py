"""The console: server-rendered pages over the rooms' services, under a strict content security policy.

Rules:

1. Pages only read. Every change goes to the JSON API from the page's own script, with the session's CSRF token, so
   there is one door for changes and the console cannot be less strict than it.
2. A page shows a button only to those whose role permits the act; the API checks again.
3. No inline script, no inline style, nothing from another origin (``default-src 'self'``).
4. Templates and static files are read when this package is imported: the process may give up root afterwards.
5. ``GET /events`` tells an open page that something changed, and ends the moment its session does.

Reading order: :mod:`.app` (routes), :mod:`.pages` (who may see a page, how it is rendered), :mod:`.views`,
:mod:`.live` and :mod:`.events` (open pages), :mod:`.assets` (files). The visual language is in
``docs/design-language.md``.
"""
