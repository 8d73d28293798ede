"""Runs on disk: launching, supervising, reading, controlling."""
