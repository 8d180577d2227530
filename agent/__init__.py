"""GPU FinOps agent: GPU energy turned into money, by project and model version, while it runs."""

__version__ = "0.1.0"
