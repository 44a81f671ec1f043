"""``limen serve``: the control plane. ``settings`` says where things are, ``adapters`` join rooms that may not import
each other, ``composition`` builds everything, ``main`` runs it."""
