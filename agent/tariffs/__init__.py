"""Plug-ins: one file each, one line each in the registry below."""
