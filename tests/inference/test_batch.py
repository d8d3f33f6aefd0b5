"""Texts that are written together, against each of them alone."""

from ostinato.inference.batch import Batch, Writing
from ostinato.inference.generate import Piece, Sampling, generate
from tests.inference.test_generate import Bytes, model


def test_texts_that_join_and_leave_are_the_same_as_alone():
    texts = model().packed()
    prompts = ["a", "bcd", "hello you", "x1", "z"]
    settings = [
        Sampling(temperature=float(index % 2), seed=index, top_k=9, repetition_penalty=1.0 + index)
        for index in range(len(prompts))
    ]
    batch = Batch(texts, Bytes(), most=3)
    found: list[list[Piece]] = [[] for _ in prompts]
    for index, prompt in enumerate(prompts):
        while not batch.has_room:
            batch.step()
        tokens = tuple(prompt.encode())
        batch.join(Writing(tokens, found[index].append, 4 + 3 * index % 5, settings[index]))  # pyright: ignore[reportArgumentType]
        batch.step()
    while batch.seats:
        batch.step()
    for index, prompt in enumerate(prompts):
        most = 4 + 3 * index % 5
        alone = list(generate(texts, prompt, Bytes(), settings[index], most))
        assert [piece.token for piece in found[index]] == [piece.token for piece in alone]
        assert (
            max(abs(a.logprob - b.logprob) for a, b in zip(found[index], alone, strict=True)) < 1e-5
        )


def test_a_text_that_is_given_up_leaves_its_place():
    batch = Batch(model().packed(), Bytes(), most=1)
    writing = Writing((1, 2), lambda _: None, 20)
    batch.join(writing)
    assert not batch.has_room
    writing.given_up = True
    batch.step()
    assert batch.has_room and not batch.seats
