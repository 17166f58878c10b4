"""Stands for jax in the stub worker."""

__version__ = "0"
