"""Sorts all pairs instead of looking for the smallest; returns lists for tuples; joins through a stack."""

QUESTION = "learn_merges"


def learn_merges(word_counts, merges):
    if merges < 0:
        raise ValueError("a negative number of merges")
    words = [(tuple(word), count) for word, count in word_counts.items()]
    learnt = []
    while len(learnt) < merges:
        table = {}
        for tokens, count in words:
            for n in range(1, len(tokens)):
                table[tokens[n - 1 : n + 1]] = table.get(tokens[n - 1 : n + 1], 0) + count
        ranked = sorted((-count, pair) for pair, count in table.items())
        if not ranked or ranked[0][0] > -2:
            return learnt
        left, right = ranked[0][1]
        learnt.append([left, right])
        after = []
        for tokens, count in words:
            out, rest = (), tokens
            while rest:
                if rest[:2] == (left, right):
                    out, rest = (*out, left + right), rest[2:]
                else:
                    out, rest = (*out, rest[0]), rest[1:]
            after.append((out, count))
        words = after
    return learnt
