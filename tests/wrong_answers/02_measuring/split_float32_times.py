"""Casts times to float32 on the way: today steps of 128 seconds, so that most of a session becomes one moment."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_seconds_of_today"


def leave_one_out(users, times):
    times = times.astype(np.float32)
    order = np.lexsort((times, users))
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = (times[order] == np.roll(times[order], 1))[held]
    return order[~held], order[held], tied
