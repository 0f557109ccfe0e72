"""Methods of dataset distillation, a folder for each family."""
