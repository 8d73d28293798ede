"""What the workbench knows, in plain Python: no torch, no textual."""
