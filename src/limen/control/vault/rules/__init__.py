"""Pure decisions of the vault: paths, versions, tokens, parameters, merge patch, rate. No I/O, no clock."""
