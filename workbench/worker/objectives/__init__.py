"""Training objectives, one readable file each."""
