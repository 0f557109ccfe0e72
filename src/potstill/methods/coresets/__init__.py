"""Coresets: real images chosen class by class, at random or by the features of a network."""
