"""DWA, and SRe2L below it: images a trained teacher recognises, from directed copies of it."""
