"""The vocabulary every other package speaks: ids, subjects, resources, decisions, grants, errors, time.

Pure standard library. Nothing here performs I/O; the only source of randomness is :func:`ids.new_id`.
Start with :mod:`limen.kernel.access`.
"""
