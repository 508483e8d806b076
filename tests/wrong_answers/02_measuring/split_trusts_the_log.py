"""Assumes that the log is written in order of time and takes the last row of each user."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_a_log_by_hand"


def leave_one_out(users, times):
    order = np.argsort(users, kind="stable")
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = (times[order] == np.roll(times[order], 1))[held]
    return order[~held], order[held], tied
