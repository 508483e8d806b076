"""Sorts by time with the default of argsort, which is not stable: fine on a few rows, shuffled on many."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_many_equal_times"


def leave_one_out(users, times):
    by_time = np.argsort(times)
    order = by_time[np.argsort(users[by_time], kind="stable")]
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = (times[order] == np.roll(times[order], 1))[held]
    return order[~held], order[held], tied
