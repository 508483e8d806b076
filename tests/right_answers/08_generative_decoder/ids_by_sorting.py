"""A stable sort by codes; the number is the place within the run of equals. No loop over rows."""

import numpy as np

QUESTION = "assign_ids"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError("no numbers at all")
    rows = len(codes)
    wide = codes.astype(np.int64)
    order = np.lexsort(wide.T[::-1]) if wide.shape[1] else np.arange(rows)
    ordered = wide[order]
    new = np.ones(rows, bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    start = np.maximum.accumulate(np.where(new, np.arange(rows), 0))
    number = np.empty(rows, np.int64)
    number[order] = np.arange(rows) - start
    full = np.flatnonzero(number >= spare)
    if len(full):
        raise ValueError(f"item {full[0]} has no number")
    return np.column_stack([wide, number])
