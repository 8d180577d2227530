"""What the daemon answers about its ledger over HTTP."""
