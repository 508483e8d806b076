"""Stage one: each loss is its formula, and the shares of several processes add up to the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import (
    CLOSE,
    SHAPES,
    VOCAB,
    assert_shares_add_up,
    descend,
    lively,
    randn,
    random_content,
    seeded,
    tiny_config,
)
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import nn

from m6rec_mini.content import BOS, EOS, MASK, PAD
from m6rec_mini.encoders import ItemEncoder, TextEncoder
from m6rec_mini.pretraining import (
    IGNORE,
    PretrainConfig,
    PretrainEncoders,
    causal_text_loss,
    info_nce,
    mask_tokens,
    masked_text_loss,
)

# Words


def test_masking_keeps_to_its_rates() -> None:
    """15% are asked; of those 80% are hidden, 10% replaced (one in 26 by itself), 10% left."""
    ids = torch.randint(EOS + 1, VOCAB, (400, 50), generator=seeded())
    read, asked = mask_tokens(ids, VOCAB, seeded(1))
    where = asked != IGNORE
    assert 0.14 < where.float().mean() < 0.16
    assert 0.77 < (read[where] == MASK).float().mean() < 0.83
    replaced = (read[where] != MASK) & (read[where] != ids[where])
    assert 0.08 < replaced.float().mean() < 0.12
    assert set(read[where][replaced].tolist()) == set(range(EOS + 1, VOCAB))  # any word, no special token
    assert torch.equal(asked[where], ids[where])
    assert torch.equal(read[~where], ids[~where])


@given(seed=st.integers(0, 1000), rate=st.sampled_from([0.0, 0.5, 1.0]))
def test_special_tokens_are_never_asked(seed: int, rate: float) -> None:
    ids = random_content(6, seed).text
    read, asked = mask_tokens(ids, VOCAB, seeded(seed), rate)
    special = (ids == PAD) | (ids == BOS) | (ids == EOS)
    assert (asked[special] == IGNORE).all()
    assert torch.equal(read[special], ids[special])
    if rate == 1.0:
        assert torch.equal(asked != IGNORE, ~special)
    if rate == 0.0:
        assert torch.equal(read, ids)


def test_the_same_seed_asks_for_the_same_words() -> None:
    ids = random_content(20).text
    one, same, other = (mask_tokens(ids, VOCAB, seeded(seed), 0.5)[1] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture(scope="module")
def text_encoder() -> TextEncoder:
    return lively(TextEncoder(VOCAB, 8, 2, 2, 8), scale=0.4)


def test_masked_text_loss_agrees_with_the_definition(text_encoder: TextEncoder) -> None:
    read, asked = mask_tokens(random_content(6).text, VOCAB, seeded(), 0.4)
    states = text_encoder.states(read, causal=False)
    total = torch.tensor(0.0)
    for row, place in (asked != IGNORE).nonzero().tolist():
        p = (text_encoder.embedding.weight @ states[row, place]).softmax(0)
        total = total - p[asked[row, place]].log()
    torch.testing.assert_close(masked_text_loss(text_encoder, read, asked), total, **CLOSE)


def test_causal_text_loss_agrees_with_the_definition(text_encoder: TextEncoder) -> None:
    """Word by word, each from a text that is cut before it."""
    ids = random_content(4).text
    total = torch.tensor(0.0)
    for row in ids:
        for place in range(1, int((row != PAD).sum())):
            state = text_encoder.states(row[None, :place], causal=True)[0, -1]
            total = total - (text_encoder.embedding.weight @ state).log_softmax(0)[row[place]]
    torch.testing.assert_close(causal_text_loss(text_encoder, ids), total, **CLOSE)


def test_without_words_there_is_nothing_to_lose(text_encoder: TextEncoder) -> None:
    empty = torch.zeros(2, 8, dtype=torch.long)
    for loss in (
        masked_text_loss(text_encoder, empty, empty + IGNORE),
        causal_text_loss(text_encoder, empty),
        causal_text_loss(text_encoder, empty[:0]),
    ):
        assert float(loss.detach()) == 0
        loss.backward()  # a process without a row of its own goes backward all the same


# Pairs


@given(pairs=st.integers(2, 8), seed=st.integers(0, 1000), temperature=st.sampled_from([0.05, 0.3, 1.0]))
def test_info_nce_agrees_with_scikit_learn(pairs: int, seed: int, temperature: float) -> None:
    a, b = randn(pairs, 5, seed=seed), randn(pairs, 5, seed=seed + 1)
    cosine = nn.functional.cosine_similarity(a[:, None], b[None], dim=-1).double() / temperature
    one, other = info_nce(a, b, temperature)
    for loss, logits in ((one, cosine), (other, cosine.T)):
        expected = log_loss(np.arange(pairs), logits.softmax(1).numpy(), labels=np.arange(pairs))
        assert float(loss.mean()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_info_nce_worked_by_hand() -> None:
    """Cosines 1 and 0 at temperature 1/ln 3: the odds of the right partner are 3 to 1."""
    one, other = info_nce(torch.eye(2) * 5, torch.eye(2) * 0.1, 1 / float(np.log(3)))
    expected = torch.full((2,), float(np.log(4 / 3)))
    torch.testing.assert_close(one, expected)
    torch.testing.assert_close(other, expected)


def test_info_nce_stays_finite() -> None:
    """Cosines of ±1 at a temperature of 1e-5 make logits of ±100,000, whose exponential no float can hold."""
    a = torch.tensor([[1e8, 0.0], [-1e8, 0.0]], requires_grad=True)
    for b, expected in ((a.detach(), 0.0), (-a.detach(), 200_000.0)):
        one, other = info_nce(a, b, 1e-5)
        torch.testing.assert_close(one, torch.full((2,), expected))
        torch.testing.assert_close(other, torch.full((2,), expected))
        one.sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_info_nce_survives_a_vector_of_zeros() -> None:
    one, _ = info_nce(torch.zeros(2, 3), torch.eye(2, 3), 0.1)
    torch.testing.assert_close(one, torch.full((2,), float(np.log(2))))


# Stage one


def stage_one(**weights: float) -> PretrainEncoders:
    return lively(PretrainEncoders(ItemEncoder(tiny_config().encoder, SHAPES), VOCAB, PretrainConfig(**weights)))


def test_stage_one_is_the_weighted_mean_of_its_parts() -> None:
    stage, content = stage_one(masked_text=0.7, causal_text=0.2, alignment=0.4), random_content(12)
    encoder, ids = stage.encoders.encoders["text"], content.text[content.present["text"]]
    read, asked = mask_tokens(ids, VOCAB, seeded(5))
    expected = 0.7 * masked_text_loss(encoder, read, asked) / (asked != IGNORE).sum()
    expected = expected + 0.2 * causal_text_loss(encoder, ids) / (ids[:, 1:] != PAD).sum()
    tokens, _ = stage.encoders(content)
    pairs, names = [], list(stage.encoders.spans)
    for n, a in enumerate(names):
        for b in names[n + 1 :]:
            both = content.present[a] & content.present[b]
            x, y = (stage.heads["feature_look" if m == "look" else m](tokens[both][:, stage.encoders.spans[m]].mean(1))
                    for m in (a, b))  # fmt: skip
            one, other = info_nce(x, y, 0.07)
            pairs.append((one.mean() + other.mean()) / 2)
    assert len(pairs) == 6
    expected = expected + 0.4 * torch.stack(pairs).mean()
    torch.testing.assert_close(stage(content, 5), expected, **CLOSE)


def test_what_an_item_lacks_is_no_pair() -> None:
    """Whatever stands in the place of a missing picture, it is nobody's negative."""
    stage, content = stage_one(), random_content(12)
    image = torch.where(content.present["image"][:, None, None, None], content.image, torch.tensor(9.0))
    assert torch.equal(stage(replace(content, image=image), 0), stage(content, 0))


@pytest.mark.parametrize("kept", [("look",), ("look", "image"), ("text",)])
def test_stage_one_works_with_any_modalities(kept: tuple[str, ...]) -> None:
    """A lone feature has nothing to learn from, and the loop can go backward all the same."""
    shapes = replace(SHAPES, modalities=kept)
    stage = PretrainEncoders(ItemEncoder(tiny_config().encoder, shapes), VOCAB, PretrainConfig())
    content = random_content(6)
    loss = stage(replace(content, present={name: content.present[name] for name in kept}), 0)
    loss.backward()
    assert (float(loss.detach()) == 0) == (kept == ("look",))


def test_stage_one_reaches_every_parameter() -> None:
    stage = stage_one().train()
    stage(random_content(20), 0).backward()
    quiet = [name for name, p in stage.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert [name for name in quiet if not name.endswith("attention.key.bias")] == []


@pytest.mark.parametrize("of", [2, 3, 15])
def test_shares_of_stage_one_add_up(of: int) -> None:
    assert_shares_add_up(stage_one().train(), random_content(11), of)


def test_stage_one_learns() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stage = PretrainEncoders(ItemEncoder(tiny_config().encoder, SHAPES), VOCAB, PretrainConfig())
    content = random_content(12)
    before, after = descend(lambda _: stage(content, 0), stage, 0.01, 20)
    assert after < 0.7 * before
