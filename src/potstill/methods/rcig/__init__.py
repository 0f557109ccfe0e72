"""RCIG: dataset distillation with convexified implicit gradients (ICML 2023)."""
