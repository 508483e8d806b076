"""It stops as soon as something has ended; longer sequences are never finished."""

import math

QUESTION = "beam_search"
REJECTED_BY = "test_a_wide_beam_is_exact"


def beam_search(step, valid, width, alpha=0.0):
    if width < 1:
        raise ValueError(f"the width is {width}; it must be at least 1")
    follow = {}
    for sequence in valid:
        if not all(0 < token < len(step) for token in sequence):
            raise ValueError(f"{sequence} holds a token outside 1 ... {len(step) - 1}")
        path = (*sequence, 0)
        for n, token in enumerate(path):
            follow.setdefault(path[:n], set()).add(token)
    beam, ended = [(0.0, ())], []
    while beam and not ended:
        grown = []
        for total, path in beam:
            after = path[-1] if path else 0
            for token in follow.get(path, ()):
                grown.append((total + float(step[after, token]), (*path, token)))
        grown = [pair for pair in grown if pair[0] > -math.inf]
        kept = sorted(grown, key=lambda pair: (-pair[0], pair[1]))[:width]
        ended += [pair for pair in kept if pair[1][-1] == 0]
        beam = [pair for pair in kept if pair[1][-1] != 0]
    ranked = [(total / len(path) ** alpha, path) for total, path in ended]
    ranked = sorted(ranked, key=lambda pair: (-pair[0], pair[1]))[:width]
    return [(list(path[:-1]), score) for score, path in ranked]
