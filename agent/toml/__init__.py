"""TOML with lines: where each key stands, and typed reading with faults that name it."""
