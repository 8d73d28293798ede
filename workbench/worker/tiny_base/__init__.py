"""The built-in tiny base model: its generated corpus, its tokenizer, its pre-training."""
