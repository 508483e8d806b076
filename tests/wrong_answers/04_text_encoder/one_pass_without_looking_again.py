"""Joins neighbouring characters once and stops: joined tokens are never joined again."""

QUESTION = "encode"
REJECTED_BY = "test_a_new_word_by_hand"


def encode(word, merges):
    tokens = list(word)
    for left, right in merges:
        for at in range(len(tokens) - 1):
            if len(tokens[at]) == len(tokens[at + 1]) == 1 and (tokens[at], tokens[at + 1]) == (left, right):
                tokens[at : at + 2] = [left + right]
                break
    return tokens
