from __future__ import annotations

from potstill.progress import part, silent, staged


def test_parts_follow_one_another_and_stages_get_one_title():
    told = []

    def note(stage, done, total, **values):
        told.append((stage, done, total, values))

    for half in (0, 1):
        for third in range(3):
            progress = part(part(staged(note, "all"), half, 2), third, 3)
            progress(f"third {third}", 1, 2, loss=0.5)
            progress(f"third {third}", 2, 2)
    assert told == [("all", n, 12, {"loss": 0.5} if n % 2 else {}) for n in range(1, 13)]


def test_silence(capsys):
    silent("step", 1, 2, loss=0.5)
    assert capsys.readouterr() == ("", "")
