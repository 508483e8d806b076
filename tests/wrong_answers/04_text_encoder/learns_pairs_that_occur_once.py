"""Goes on as long as there is any pair, and so learns whole words by heart."""

from collections import Counter

QUESTION = "learn_merges"
REJECTED_BY = "test_when_to_stop"


def learn_merges(word_counts, merges):
    if merges < 0:
        raise ValueError("merges must not be negative")
    words = {word: list(word) for word in word_counts}
    learnt = []
    for _ in range(merges):
        counts = Counter()
        for word, tokens in words.items():
            for pair in zip(tokens, tokens[1:], strict=False):
                counts[pair] += word_counts[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(best)
        for word, tokens in words.items():
            at = 0
            while at < len(tokens) - 1:
                if (tokens[at], tokens[at + 1]) == best:
                    tokens[at : at + 2] = ["".join(best)]
                at += 1
    return learnt
