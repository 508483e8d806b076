"""By time, then by user, both stable; int32 rows, and 0 or 1 for tied."""

import numpy as np

QUESTION = "leave_one_out"


def leave_one_out(users, times):
    by_time = np.argsort(times, kind="stable").astype(np.int32)
    order = by_time[np.argsort(users[by_time], kind="stable")]
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = (times[order] == np.roll(times[order], 1))[held].astype(int)
    return order[~held], order[held], tied
