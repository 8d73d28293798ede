"""Datasets before training: where they are, what format they have, what is wrong with them."""
