"""Methods that match what a network makes of real and of synthetic images."""
