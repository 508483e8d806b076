"""The whole network: padding and empty histories, what is known of an item, configs as plain data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import CLOSE, DIM, SHAPES, random_catalogue, random_content, random_histories, tiny_config, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m6rec_mini.catalog import EMPTY_HISTORY, History
from m6rec_mini.decoder import DecoderConfig
from m6rec_mini.encoders import EncoderConfig
from m6rec_mini.fusion import FusionConfig
from m6rec_mini.model import Batch, M6RecMini, ModelConfig, from_dict, to_dict

ITEMS = 9


def arrays(*rows: list[int]) -> History:
    return History(*(np.array(row, np.int64) for row in rows))


# Batches of histories


def test_a_batch_of_two_histories_worked_by_hand() -> None:
    """Gaps of 3 and 15 seconds are buckets 1 and 2; the first event is in the last bucket."""
    batch = Batch.of([arrays([4], [2], [99]), arrays([1, 2, 3], [0, 1, 0], [10, 13, 28])])
    assert batch.items.tolist() == [[4, 0, 0], [1, 2, 3]]
    assert batch.actions.tolist() == [[2, 0, 0], [0, 1, 0]]
    assert batch.gaps[1].tolist() == [15, 1, 2]
    assert batch.gaps[0, 0] == 15
    assert batch.lengths.tolist() == [1, 3]
    assert batch.real.tolist() == [[True, False, False], [True, True, True]]


def test_but_last_is_what_is_read_when_all_is_asked() -> None:
    batch = Batch.of([arrays([4], [2], [99]), arrays([1, 2, 3], [0, 1, 0], [10, 13, 28]), EMPTY_HISTORY]).but_last
    assert batch.items.tolist() == [[4, 0], [1, 2], [0, 0]]
    assert batch.actions.tolist() == [[2, 0], [0, 1], [0, 0]]
    assert batch.gaps[1].tolist() == [15, 1]
    assert batch.lengths.tolist() == [0, 2, 0]


def test_map_changes_every_part() -> None:
    batch = Batch.of(random_histories([3, 1, 2], ITEMS))
    picked = batch.map(lambda x: x[[2, 0]])
    for name in ("items", "actions", "gaps", "lengths"):
        assert torch.equal(getattr(picked, name), getattr(batch, name)[[2, 0]])


@pytest.mark.parametrize("histories", [[], [EMPTY_HISTORY], [EMPTY_HISTORY] * 3])
def test_a_batch_of_nothing(histories: list[History]) -> None:
    batch = Batch.of(histories)
    assert batch.items.shape == batch.actions.shape == batch.gaps.shape == (len(histories), 0)
    assert batch.but_last.items.shape == batch.real.shape == (len(histories), 0)
    model = tiny_model()
    states = model.decoder(model.embed(torch.zeros(ITEMS, DIM), batch))
    assert states.shape == (len(histories), 1, DIM)  # the start token
    assert states.isfinite().all()


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4), seed=st.integers(0, 100))
def test_padding_does_not_change_states(lengths: list[int], seed: int) -> None:
    model, vectors = tiny_model(), torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(seed))
    histories = random_histories(lengths, ITEMS, seed)
    together = model.decoder(model.embed(vectors, Batch.of(histories)))
    for row, history in enumerate(histories):
        alone = model.decoder(model.embed(vectors, Batch.of([history])))
        torch.testing.assert_close(together[row, : len(history) + 1], alone[0], **CLOSE)


# What is known of an item


def test_vectors_are_the_fusion_of_the_encoders_tokens() -> None:
    model, kept = tiny_model(), random_catalogue(tiny_model(), ITEMS)
    content = model.content_vectors(kept.tokens, kept.present)
    torch.testing.assert_close(content, model.fusion(*model.encoders(random_content(ITEMS))), **CLOSE)
    torch.testing.assert_close(model.item_vectors(kept.tokens, kept.present, kept.seen), content)  # no identities


@pytest.mark.parametrize("num_items", [6, ITEMS])
def test_only_known_items_have_an_identity(num_items: int) -> None:
    """Items 2 and 5 were in no training event; from `num_items` on they are new. Both have content alone."""
    model = tiny_model(num_items=num_items)
    kept = random_catalogue(model, ITEMS, unseen=[2, 5, *range(num_items, ITEMS)])
    added = model.item_vectors(kept.tokens, kept.present, kept.seen) - model.content_vectors(kept.tokens, kept.present)
    expected = torch.zeros(ITEMS, DIM)
    expected[:num_items] = model.identity.weight
    expected[[2, 5]] = 0
    torch.testing.assert_close(added, expected, **CLOSE)


def test_identities_can_be_left_out() -> None:
    config = replace(tiny_config(), identities=False)
    assert M6RecMini(config, SHAPES, ITEMS).identity.weight.shape == (0, DIM)


def test_identities_start_small() -> None:
    assert M6RecMini(tiny_config(), SHAPES, 200).identity.weight.std() < 0.03


def test_tokens_are_standardised_on_the_items_of_training() -> None:
    model, content = tiny_model(), random_content(30)
    raw, present = model.encoders.encode_all(content)
    assert torch.equal(model.tokens(content)[0], raw)  # before it has measured anything
    model.calibrate(content.rows(slice(0, 20)))
    tokens, same = model.tokens(content)
    assert torch.equal(same, present)
    assert (tokens[~present] == 0).all()
    for place in range(model.encoders.tokens):
        mine = tokens[:20, place][present[:20, place]]
        torch.testing.assert_close(mine.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
        varies = raw[:20, place][present[:20, place]].std(0) > 1e-3  # what fills up a vector stays zero
        torch.testing.assert_close(mine.std(0, correction=0), varies.float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.tokens(content.rows(slice(25, 30)))[0], tokens[25:], **CLOSE)  # one by one, alike


@pytest.mark.parametrize("seen_looks", [0, 1])
def test_what_training_hardly_had_is_not_blown_up(seen_looks: int) -> None:
    """One look has no deviation. An item that arrives with another one must not be a thousand times as loud."""
    model, content = tiny_model(), random_content(12)
    looks = torch.arange(12) < seen_looks
    model.calibrate(replace(content, present={**content.present, "look": looks}))
    assert model.tokens(content)[0].abs().max() < 20


def test_what_was_measured_is_saved_with_the_model() -> None:
    model, content = tiny_model(), random_content(12)
    model.calibrate(content)
    other = tiny_model(seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.tokens(content)[0], model.tokens(content)[0])


def test_words_are_those_of_the_text_or_nothing() -> None:
    model, content = tiny_model(), random_content(8)
    words, has_text = model.words(content), content.present["text"]
    assert torch.equal(words[has_text], model.encoders.encoders["text"].words(content.text[has_text]))
    assert (words[~has_text] == 0).all()
    silent = M6RecMini(tiny_config(), replace(SHAPES, modalities=("image", "look")))
    assert silent.words(content).shape == (8, 0)


def rows_moved(one: Tensor, other: Tensor) -> Tensor:
    return ~torch.isclose(one, other, **CLOSE).all(1)


def test_identities_are_hidden_in_training_only() -> None:
    items = 400
    model = tiny_model(num_items=items, config=tiny_config(hide_identity=0.25))
    tokens, present = model.encoders.encode_all(random_content(items))
    known = torch.arange(items) % 4 > 0
    content = model.content_vectors(tokens, present)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = rows_moved(model.item_vectors(tokens, present, known), content)
    assert not moved[~known].any()
    assert 0.65 < moved[known].float().mean() < 0.85
    model.eval()
    assert torch.equal(rows_moved(model.item_vectors(tokens, present, known), content), known)


def test_modalities_are_hidden_in_training_only() -> None:
    model = tiny_model(config=tiny_config(dropout=0.5))
    tokens, present = model.encoders.encode_all(random_content(50))
    still = model.content_vectors(tokens, present)
    assert torch.equal(model.content_vectors(tokens, present), still)
    model.train()
    model.fusion.head.mlp[3].p = 0.0  # what is left is the hiding
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = rows_moved(model.content_vectors(tokens, present), still)
    several = torch.stack([present[:, span].any(1) for span in model.encoders.spans.values()]).sum(0) > 1
    assert not moved[~several].any()  # an item's only modality stays
    assert moved[several].float().mean() > 0.3


def test_logits_are_inner_products() -> None:
    states, vectors = torch.randn(2, 3, DIM), torch.randn(ITEMS, DIM)
    expected = (states[:, :, None] * vectors).sum(-1)
    plain = M6RecMini(replace(tiny_config(), echo=False), SHAPES)
    torch.testing.assert_close(plain.vector_logits(states, vectors), expected, **CLOSE)
    torch.testing.assert_close(tiny_model().vector_logits(states, vectors), expected / DIM**0.5, **CLOSE)


def test_a_model_that_echoes_starts_in_one_space() -> None:
    """What is read of an item is its own (normalised) vector, so that the state points to what it resembles."""
    model = M6RecMini(tiny_config(), SHAPES)
    vector = torch.randn(1, 1, DIM)
    torch.testing.assert_close(model.decoder.project(vector), vector)


def test_the_ablation_is_another_fusion_in_the_same_place() -> None:
    model = tiny_model(config=tiny_config("concatenation"))
    assert type(model.fusion).__name__ == "Concatenation"
    assert model.content_vectors(*model.encoders(random_content(ITEMS))).shape == (ITEMS, DIM)


# Configs


def test_widths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"width 32, the decoder reads width 64"):
        ModelConfig(fusion=FusionConfig(dim=32), decoder=DecoderConfig(dim=64))


@given(
    dim=st.sampled_from([8, 16]),
    kind=st.sampled_from(["attention", "concatenation"]),
    image=st.sampled_from(["resnet", "vgg"]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    dropout=st.floats(0, 1),
)
def test_a_config_survives_json(dim: int, kind: Any, image: Any, sizes: list[int], dropout: float) -> None:
    config = ModelConfig(
        EncoderConfig(image=image),
        FusionConfig(kind=kind, dim=dim, dropout=dropout),
        DecoderConfig(dim=dim, code_sizes=tuple(sizes)),
    )
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, r"ModelConfig has no field 'depth'; it has decoder, echo, encoder, fusion"),
        ({"decoder": {"layer": 3}}, r"DecoderConfig has no field 'layer'; it has .*layers"),
        ({"fusion": {"kind": "concat"}}, r"FusionConfig\.kind is 'concat'; expected one of \('attention', 'conc"),
        ({"encoder": 3}, r"EncoderConfig has fields, as a JSON object; got 3"),
        ({"fusion": {"dim": 32}}, r"width 32, the decoder reads width 64"),
    ],
)
def test_a_foreign_config_is_refused_with_its_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(ModelConfig, change)


def test_what_is_not_said_is_as_by_default() -> None:
    assert from_dict(ModelConfig, {"decoder": {"layers": 1}}) == ModelConfig(decoder=DecoderConfig(layers=1))
