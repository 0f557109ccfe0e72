from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

from hypothesis import settings  # noqa: E402

# Machines differ in speed; whether a test passes may not.
settings.register_profile("potstill", deadline=None)
settings.load_profile("potstill")
