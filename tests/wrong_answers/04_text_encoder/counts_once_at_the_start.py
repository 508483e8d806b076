"""Counts pairs of characters once and takes the most frequent ones: no pair ever holds a joined token."""

from collections import Counter

QUESTION = "learn_merges"
REJECTED_BY = "test_four_words_by_hand"


def learn_merges(word_counts, merges):
    if merges < 0:
        raise ValueError("merges must not be negative")
    counts = Counter()
    for word, count in word_counts.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += count
    ranked = sorted(counts, key=lambda pair: (-counts[pair], pair))
    return [pair for pair in ranked if counts[pair] > 1][:merges]
