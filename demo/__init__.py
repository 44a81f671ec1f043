"""The main job of Limen, played end to end on this machine with real parts: ``./dev demo``.

``story`` tells it step by step; ``lab`` builds two small networks out of namespaces; ``tenant`` is one organisation
with its people; ``doors`` are the real programs that go through Limen; ``report`` holds what was measured.
"""
