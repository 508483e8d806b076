"""Key words: what recurs in histories is a word of taste; what is everywhere, or nowhere twice, is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from tokenizers import Tokenizer

from m6rec_mini.catalog import Interactions, Item
from m6rec_mini.content import PAD, ContentConfig, ContentReader, train_tokenizer
from m6rec_mini.keywords import is_word, key_words, log_lift, word_matrix

COLOURS = ("red", "blue", "green", "white", "black", "brown")


def events(*users: list[int], items: int) -> Interactions:
    """Each user's items, in order; one event a second."""
    rows = [(user, item, 0, time) for user, past in enumerate(users) for time, item in enumerate(past)]
    return Interactions.sort(*np.array(rows, np.int64).reshape(-1, 4).T, len(users), items)


def spelt(reader: ContentReader, ids: list[int]) -> list[str]:
    return [reader.tokenizer.decode([token]).strip() for token in ids if token != PAD]


def found(matrix: sparse.csr_array, tokenizer: Tokenizer, row: int) -> set[str]:
    return {tokenizer.decode([token]).strip() for token in matrix[[row]].indices}


@pytest.fixture(scope="module")
def concerts() -> tuple[list[Item], ContentReader]:
    """Six items each about jazz, chess, 爵士 (jazz) and 象棋 (chess), and one without text.

    What stands around the Chinese words shares no byte with them: a merge across characters would hide them.
    """
    texts = [f"a {colour} evening of the {topic}" for topic in ("jazz", "chess") for colour in COLOURS]
    around = list(zip("天地人山水火", "上大木美花雨", strict=True))
    texts += [f"{before}{topic}{after}" for topic in ("爵士", "象棋") for before, after in around]
    items = [Item(str(n), text=text) for n, text in enumerate(texts)] + [Item("mute", features={"x": np.ones(1, "f4")})]
    return items, ContentReader.fit(items, ContentConfig(vocab=2000))


def users_of(*pools: list[int], items: int) -> Interactions:
    """Twenty users for each pool, who draw twenty items from it at random."""
    rng = np.random.default_rng(0)
    return events(*[rng.choice(pool, 20).tolist() for pool in pools for _ in range(20)], items=items)


JAZZ, CHESS, JAZZ_ZH, CHESS_ZH = ([*range(start, start + 6)] for start in (0, 6, 12, 18))


def test_jazz_recurs_and_the_does_not(concerts: tuple[list[Item], ContentReader]) -> None:
    items, reader = concerts
    train = users_of(JAZZ + JAZZ_ZH, CHESS + CHESS_ZH, items=len(items))
    words = [spelt(reader, ids) for ids in key_words(items, reader, train).tolist()]
    assert words == [["jazz"]] * 6 + [["chess"]] * 6 + [["爵士"]] * 6 + [["象棋"]] * 6 + [[]]


def test_a_language_that_users_keep_to_is_a_taste_but_less_so_than_a_topic(
    concerts: tuple[list[Item], ContentReader],
) -> None:
    items, reader = concerts
    train = users_of(JAZZ, CHESS, JAZZ_ZH, CHESS_ZH, items=len(items))
    words = [spelt(reader, ids) for ids in key_words(items, reader, train).tolist()]
    assert words[0][0] == "jazz"
    assert set(words[0][1:]) == {"the", "evening"}


def test_as_many_as_asked_the_best_first() -> None:
    """Two words name the taste; `deep` is on half of the items only, and recurs no less often among them."""
    texts = [f"a {colour} {extra} house" for colour, extra in zip(COLOURS, ["deep", "acid"] * 3, strict=True)]
    texts += [f"a {colour} plain barn" for colour in COLOURS]
    items = [Item(str(n), text=text) for n, text in enumerate(texts)]
    reader = ContentReader.fit(items, ContentConfig(vocab=600))
    rng = np.random.default_rng(0)
    deep, acid, barn = [0, 2, 4], [1, 3, 5], list(range(6, 12))
    past = [[int(rng.choice(pool)) for _ in range(30)] for pool in (deep, acid, barn, barn) for _ in range(10)]
    train = events(*past, items=len(items))
    lift = log_lift(word_matrix(texts, reader.tokenizer), train)
    for count in (1, 2, 4):
        chosen = key_words(items, reader, train, count)
        assert chosen.shape == (12, count)
        for row in chosen.tolist():
            real = [token for token in row if token != PAD]
            assert row == real + [PAD] * (count - len(real))
            assert list(lift[real]) == sorted(lift[real], reverse=True)
    assert spelt(reader, key_words(items, reader, train, 1)[0].tolist()) == ["deep"]
    assert set(spelt(reader, key_words(items, reader, train, 4)[0].tolist())) == {"deep", "house"}


# What counts as a word


@pytest.mark.parametrize("text", ["jazz", " jazz", "été", "爵士", "爵士乐", "музыка", "ジャズ"])
def test_words(text: str) -> None:
    assert is_word(text)


@pytest.mark.parametrize("text", ["", " ", "of", "爵", "r2d2", "2024", "...", "\ufffd\ufffd", "a b c", "don't"])
def test_no_words(text: str) -> None:
    assert not is_word(text)


def test_a_piece_of_a_word_is_none() -> None:
    """Only what stands between spaces as one token counts, in any alphabet: not `book` of `booklet`."""
    tokenizer = train_tokenizer(["a book", "the book", "книга", "и книга"] * 3, 400)
    matrix = word_matrix(["a book here", "booklet", "книга", "книгами", "", "book"], tokenizer)
    assert [found(matrix, tokenizer, row) for row in range(6)] == [{"book"}, set(), {"книга"}, set(), set(), set()]


def test_a_text_without_spaces_has_words_all_the_same() -> None:
    tokenizer = train_tokenizer(["天爵士大", "地爵士小", "人爵士多", "天音乐大", "地音乐小", "人音乐多"], 400)
    matrix = word_matrix(["上爵士下音乐", "爵", "爵士爵士"], tokenizer)
    assert [found(matrix, tokenizer, row) for row in range(3)] == [{"爵士", "音乐"}, set(), {"爵士"}]
    assert matrix.max() == 1  # there or not, however often
    assert matrix.shape == (3, tokenizer.get_vocab_size())


# Lift


def test_lift_worked_by_hand() -> None:
    """Word 0 is on items 0 and 1, word 1 on all. Pairs: thirty 0 → 1, ten 0 → 2, twenty 2 → 3.

    Word 0 comes first in 40 pairs, second in 30, and is shared by 30; by chance by 40 · 30 / 60 = 20.
    """
    words = sparse.csr_array(np.array([[1.0, 1], [1, 1], [0, 1], [0, 1]]))
    train = events(*[[0, 1]] * 30, *[[0, 2]] * 10, *[[2, 3]] * 20, items=4)
    np.testing.assert_allclose(log_lift(words, train), [np.log((30 + 10) / (20 + 10)), 0])


def test_coming_back_to_the_same_item_says_nothing_about_its_words() -> None:
    """Who views an item, then likes it, then comments on it, has not looked for another one like it."""
    words = sparse.csr_array(np.eye(3))
    train = events(*[[0, 0, 0, 1, 1, 2]] * 50, items=3)
    assert (log_lift(words, train) <= 0).all()


def test_two_users_are_no_neighbours() -> None:
    words = sparse.csr_array(np.array([[1.0, 0], [0, 1]]))
    train = events(*[[0, 1], [1, 0]] * 50, items=2)  # ... 1 | 1 ... 0 | 0
    assert (log_lift(words, train) < 0).all()


@pytest.mark.parametrize("past", [[], [[0]], [[0], [1]]])
def test_without_pairs_there_is_no_lift(past: list[list[int]]) -> None:
    train = events(*past, items=2)
    assert log_lift(sparse.csr_array(np.ones((2, 3))), train).tolist() == [0, 0, 0]


def test_a_few_pairs_are_not_believed() -> None:
    """One pair that shares a rare word is fifty times chance, and may still be an accident."""
    words = sparse.csr_array(np.array([[1.0], [1], [0], [0]]))
    assert 0 < log_lift(words, events([0, 1], *[[2, 3]] * 49, items=4))[0] < 0.1
