"""Data sets, what a network sees of them, and the distilled set as one file."""
