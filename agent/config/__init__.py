"""The configuration: strict TOML to frozen records, every fault with its line."""
