"""Joins by replacing text between spaces, so that `a` followed by `b` is also found at the end of a longer token."""

from collections import Counter

QUESTION = "learn_merges"
REJECTED_BY = "test_small_vocabularies"


def learn_merges(word_counts, merges):
    if merges < 0:
        raise ValueError("merges must not be negative")
    texts = {" ".join(word): count for word, count in word_counts.items()}
    learnt = []
    for _ in range(merges):
        counts = Counter()
        for text, count in texts.items():
            tokens = text.split()
            for pair in zip(tokens, tokens[1:], strict=False):
                counts[pair] += count
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(best)
        texts = {text.replace(" ".join(best), "".join(best)): count for text, count in texts.items()}
    return learnt
