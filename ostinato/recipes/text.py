"""Recipes for language models: nanochat.

Bits per byte are measured on held-out documents, in windows of the model's length; docs/results.md
says how.
"""

from dataclasses import replace

from ostinato.data.text import ChatData, TextData
from ostinato.data.text.hops import HopData
from ostinato.models import NanoChatConfig
from ostinato.training.config import TextRecipe, TextTrainingConfig

PRESETS = {
    "tiny": NanoChatConfig(vocab_size=2048, num_layers=4),
    "d20": NanoChatConfig(vocab_size=50_257),
    "nano-125m": NanoChatConfig(
        vocab_size=50_257, seq_len=512, hidden_size=768, num_layers=12, num_heads=12
    ),
    "nano-560m": NanoChatConfig(
        vocab_size=50_257, seq_len=512, hidden_size=1024, num_layers=24, num_heads=16
    ),
}
"""Named sizes of nanochat: name → configuration."""


def preset_named(name: str) -> NanoChatConfig:
    """Return the configuration of a preset; ValueError for an unknown name lists those known."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def nanochat_tiny() -> TextRecipe:
    """4 M ternary weights, on Python's own sources.

    It reaches 1.084 bits per byte on 30 test files and 1.150 on validation after 30 minutes on one
    CPU core; a byte trigram has 2.595 and 2.689 there, xz -9e 1.712 and 1.811.

    ostinato train nanochat-tiny --time-limit 30m --compile
    """
    return TextRecipe(
        name="nanochat-tiny",
        model=replace(preset_named("tiny"), stream_mode="dynamic", forward_dtype="auto"),
        data=TextData(corpus="python-stdlib", num_tokens=2048),
        training=TextTrainingConfig(
            total_steps=6000,
            global_batch_size=8,
            lr=2e-2,
            warmup_steps=50,
            decay_start=0.4,
            lr_min_ratio=0.0,
            decay_by="time",
            eval_every=1000,
            checkpoint_every=500,
            sample_prompts=("",),
        ),
    )


def nanochat_stories() -> TextRecipe:
    """The same model on short stories for children.

    Source: TinyStories (arXiv 2305.07759), from the Hub. Not run here: it has to be downloaded (2.2
    GB).

    ostinato train nanochat-stories --time-limit 30m --compile
    """
    return replace(
        nanochat_tiny(),
        name="nanochat-stories",
        data=TextData(corpus="tinystories", num_tokens=2048, num_validation=500),
    )


def nanochat_chat() -> TextRecipe:
    """A trained nanochat learns to answer, from conversations.

    Without --conversations it learns small dialogues about colours, capitals, sums, … that are
    generated; questions for validation are put in ways that it has not seen.

    ostinato train nanochat-chat --init-from runs/nanochat-tiny --compile
    """
    return replace(
        nanochat_tiny(),
        name="nanochat-chat",
        data=ChatData(),
        training=replace(
            nanochat_tiny().training,
            total_steps=1500,
            lr=5e-3,
            muon_lr=0.01,
            decay_by="steps",
            eval_every=250,
            checkpoint_every=250,
            sample_prompts=("What colour is the sky?", "Tell me a story about a bear."),
        ),
    )


def nanochat_d20() -> TextRecipe:
    """18 M weights, on TinyStories: for a GPU.

    It is 256 wide, with 6 layers and a vocabulary of 50,257. Source: the preset of that name of the
    Rust project that nanochat follows. Not run here.

    ostinato train nanochat-d20 --compile
    """
    return TextRecipe(
        name="nanochat-d20",
        model=replace(preset_named("d20"), forward_dtype="auto"),
        data=TextData(corpus="tinystories", num_tokens=50_257, num_validation=500),
        training=TextTrainingConfig(
            total_steps=20_000, global_batch_size=64, lr=1e-3, warmup_steps=200, eval_every=1000
        ),
    )


def nanochat_125m() -> TextRecipe:
    """127 M weights, on TinyStories: for a GPU.

    It is 768 wide, with 12 layers. Source: as for nanochat-d20. Not run here.

    ostinato train nanochat-125m --compile
    """
    return replace(
        nanochat_d20(),
        name="nanochat-125m",
        model=replace(preset_named("nano-125m"), forward_dtype="auto"),
        training=replace(
            nanochat_d20().training, global_batch_size=128, accumulation=4, total_steps=40_000
        ),
    )


def nanochat_hops() -> TextRecipe:
    """Modular arithmetic in trees, by two blocks that are applied four times.

    Source: the task Mano of *Physics of Language Models*, and Ouro (arXiv 2510.25741), in small:
    modulus 3, up to 4 operators in training and 8 in test. See docs/loops.md for the results.

    ostinato train nanochat-hops
    ostinato train nanochat-hops --num-loops 1 --gate-start 1
    """
    return TextRecipe(
        name="nanochat-hops",
        model=NanoChatConfig(
            vocab_size=257,
            seq_len=64,
            hidden_size=64,
            num_layers=2,
            num_streams=1,
            ternary=False,
            group_size=0,
            sandwich_norm=True,
            num_loops=4,
        ),
        data=HopData(modulus=3),
        training=TextTrainingConfig(
            total_steps=4000,
            global_batch_size=64,
            lr=3e-3,
            muon_lr=0.02,
            warmup_steps=50,
            decay_start=0.5,
            gate_start=0.95,
            eval_every=1000,
            eval_batch_size=64,
            checkpoint_every=500,
            log_every=50,
        ),
    )


def nanochat_hops_equal_parameters() -> TextRecipe:
    """The twin of nanochat-hops with the same parameters and a quarter of the compute.

    ostinato train nanochat-hops-equal-parameters
    """
    looped = nanochat_hops()
    return replace(
        looped,
        name="nanochat-hops-equal-parameters",
        model=replace(looped.model, num_loops=1),
        training=replace(looped.training, gate_start=1.0),
    )


def nanochat_hops_equal_compute() -> TextRecipe:
    """The twin of nanochat-hops with the same compute: four times as many blocks, applied once.

    ostinato train nanochat-hops-equal-compute
    """
    twin = nanochat_hops_equal_parameters()
    return replace(
        twin,
        name="nanochat-hops-equal-compute",
        model=replace(twin.model, num_layers=4 * twin.model.num_layers),
    )
