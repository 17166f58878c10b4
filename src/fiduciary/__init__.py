"""Fiduciary: one governed path for every AI decision: train, release, serve, watch, prove."""

__version__ = "0.1.0"
