"""From rows to what the trainer sees: datasets, chat templates."""
