"""The arithmetic behind a choice, worked on the user's own model: LoRA, quantisation, objectives."""
