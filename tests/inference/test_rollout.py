"""Rollouts: each sample is what the model would draw alone, from the same random numbers."""

import itertools

import torch

from ostinato.inference.rollout import choose, roll_out
from ostinato.models import NanoChat, NanoChatConfig

MODEL = NanoChatConfig(
    vocab_size=7, seq_len=16, hidden_size=16, num_layers=2, num_heads=2, group_size=16
)


def test_samples_are_those_of_the_model_read_one_text_at_a_time():
    model = NanoChat(MODEL, torch.Generator().manual_seed(0))
    model.embed_tokens.weight.data *= 20  # far from uniform
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(7, (3, 4), generator=generator)
    draws = torch.rand(3, 5, 12, generator=generator, dtype=torch.float64)
    found = roll_out(model, prompts, draws, [6])
    assert 0 < found.finished.sum() < 15
    for row, prompt in enumerate(prompts):
        for sample in range(5):
            text, entropy = prompt.tolist(), 0.0
            for draw in draws[row, sample].tolist():
                with torch.no_grad():
                    chances = model(torch.tensor([text]))[0, -1].double().softmax(-1)
                entropy -= float((chances * chances.log()).sum())
                borders = itertools.accumulate(chances.tolist())
                token = next(place for place, border in enumerate(borders) if draw < border)
                text.append(token)
                if token == 6:
                    break
            length = len(text) - 4
            assert found.tokens[row, sample, :length].tolist() == text[4:]
            assert found.written[row, sample].tolist() == [n < length for n in range(12)]
            assert bool(found.finished[row, sample]) == (text[-1] == 6)
            assert abs(found.entropy[row, sample].item() - entropy) < 1e-3


def test_a_token_without_a_chance_is_never_drawn():
    chances = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).double().repeat(4, 1)
    draws = torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert choose(chances, draws).tolist() == [1, 1, 3, 3]
