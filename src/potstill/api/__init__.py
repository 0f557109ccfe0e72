"""The commands as functions: what ``import potstill`` gives, for data that is in memory as well.

Every function takes what a caller is likely to hold (a set or its file, a recipe or its name, a
torch Dataset, a network of one's own) and hands on what the packages below ask for. ``potstill``
names them all; nothing here prints.
"""
