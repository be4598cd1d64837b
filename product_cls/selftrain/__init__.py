"""Self-training: rounds in which finished runs teach the next ones the unlabelled test pictures."""
