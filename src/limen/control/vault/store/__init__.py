"""The only SQL of the vault room: standing (token, subject, block, grant), secrets, tokens, workloads."""
