from __future__ import annotations

import os

# Before PyTorch is imported: tests are many and small, and run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

# Machines differ in speed; whether a test passes may not.
settings.register_profile("potstill", deadline=None)
settings.load_profile("potstill")
