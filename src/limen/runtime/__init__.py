"""What every process needs around its work: settings, logs, TLS, HTTP plumbing. No decisions, no SQL."""
