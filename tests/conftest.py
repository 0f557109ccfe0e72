from __future__ import annotations

from hypothesis import settings

# Machines differ in speed; whether a test passes may not.
settings.register_profile("potstill", deadline=None)
settings.load_profile("potstill")
