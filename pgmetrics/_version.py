"""The version, which importing loads nothing else for."""

__version__ = "0.1.0"
