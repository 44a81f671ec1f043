"""The only SQL of this room: :mod:`tenant` for agents of one tenant, :mod:`platform` for agents of the platform.

Both have the same functions, so that the use cases choose one module and read the same.
"""
