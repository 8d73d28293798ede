"""What can be picked: models, their architectures, and datasets."""
