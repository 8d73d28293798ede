"""What the user sees: a Textual application over the engine."""
