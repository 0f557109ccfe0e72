"""What a distilled set is like beyond the accuracy that networks reach on it."""
