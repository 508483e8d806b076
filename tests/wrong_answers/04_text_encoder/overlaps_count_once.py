"""Counts the places where a pair could be joined without overlap, so `aaa` holds `aa` once."""

from collections import Counter

QUESTION = "learn_merges"
REJECTED_BY = "test_repeated_letters"


def learn_merges(word_counts, merges):
    if merges < 0:
        raise ValueError("merges must not be negative")
    words = {word: list(word) for word in word_counts}
    learnt = []
    for _ in range(merges):
        counts = Counter()
        for word, tokens in words.items():
            before = None
            for pair in zip(tokens, tokens[1:], strict=False):
                repeated = before == pair
                counts[pair] += 0 if repeated else word_counts[word]
                before = None if repeated else pair
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(best)
        for tokens in words.values():
            at = 0
            while at < len(tokens) - 1:
                if (tokens[at], tokens[at + 1]) == best:
                    tokens[at : at + 2] = ["".join(best)]
                at += 1
    return learnt
