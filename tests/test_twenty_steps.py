"The numbers of a training do not change unnoticed."

import torch
from twenty_steps import LIST, committed, differences, steps


def test_twenty_steps_give_the_committed_losses():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        new = steps()
    finally:
        torch.set_num_threads(before)
    found = differences(committed(), new)
    assert not found, (
        f'{found}. If the change is meant: python tests/twenty_steps.py "what changed", and a line in CHANGELOG.md'
    )


def test_the_list_covers_what_can_change():
    old = committed()
    assert LIST.read_text().startswith("# ") and old.index.tolist() == list(range(1, 21))
    assert {"sup_hard", "sup_corr", "unsup_hard", "unsup_fp", "unsup_soft", "unsup_corr", "total", "tau"} <= set(old)
    confident, mask = old["confident_ratio"], old["mask_ratio"]
    assert (confident > 0.05).sum() > 10 and (mask > confident).any(), (
        "pixels must be confident and regions accepted, or nothing is compared"
    )


def test_a_small_change_is_seen():
    old = committed()
    for column in old:
        assert f"first {column} of step 20" in differences(
            old, old.assign(**{column: old[column].where(old.index < 20, old[column] + 1e-5)})
        )
    assert (
        not differences(old, old + 1e-9)
        and differences(old, old.iloc[:-1])
        and differences(old, old.drop(columns="tau"))
    )
