"""The only SQL of the identity room; every statement names its tenant besides running in its transaction."""
