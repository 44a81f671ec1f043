"""The console: server-rendered pages over the rooms' services, under a strict content security policy."""
