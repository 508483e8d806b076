"""Goes down the list and starts over after the first pair that it could join; recursive."""

QUESTION = "encode"


def encode(word, merges):
    def go(tokens):
        for left, right in merges:
            for at in range(len(tokens) - 1):
                if tokens[at] == left and tokens[at + 1] == right:
                    return go([*tokens[:at], left + right, *tokens[at + 2 :]])
        return tokens

    return go(list(word))
