"""Rehearsal: the run's own trainer on fake tensors, its memory followed storage by storage."""
