"""Area under the ROC curve by trapezoids, with one point for each distinct score; gives back a 0-d array."""

import numpy as np

QUESTION = "auc"


def auc(labels, scores):
    if labels.shape != scores.shape or np.isnan(scores).any():
        raise ValueError("expected one score a label, none of them NaN")
    clicked = (labels == 1).astype(float)
    if clicked.sum() in (0, len(clicked)):
        return np.array(np.nan)
    order = np.argsort(scores)[::-1]
    ends = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
    hits = np.append(0, np.cumsum(clicked[order])[ends]) / clicked.sum()
    alarms = np.append(0, np.cumsum(1 - clicked[order])[ends]) / (1 - clicked).sum()
    return np.array(((hits[1:] + hits[:-1]) / 2 * np.diff(alarms)).sum())
