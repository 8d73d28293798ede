"""The only place where torch is imported: training, inspection, chat."""
