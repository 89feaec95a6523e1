"""Safepoint: git push deploys onto your own server, and any running deploy can be taken back safely."""

__version__ = "0.1.0"
