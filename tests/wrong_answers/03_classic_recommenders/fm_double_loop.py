"""The double sum as it stands in the definition, in Python: right, and never done with a wide row."""

import numpy as np

QUESTION = "fm_score"
REJECTED_BY = "test_wide_rows_are_cheap"


def fm_score(x, w0, w, v):
    out = []
    for row in x.astype(float):
        score = w0 + row @ w
        for i in range(len(row)):
            for j in range(i + 1, len(row)):
                score += (v[i] @ v[j]) * row[i] * row[j]
        out.append(score)
    return np.array(out)
