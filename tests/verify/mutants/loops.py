"""Wrong implementations that rows of "Loops" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "the embedding added before every pass",
        "models.nanochat:NanoChat.states",
        {"yield x": "yield x\n        x = x + self.embed_tokens(tokens)"},
        "Looped blocks",
    ),
    Mutant(
        "no norm behind attention",
        "models.nanochat:Block.sublayers",
        {"self.attention_out_norm(attended)": "attended"},
        "Looped blocks",
    ),
    Mutant(
        "the last pass leaves by its gate too",
        "layers.exits:log_exit_probabilities",
        {"torch.cat([F.logsigmoid(logits[:-1]), nothing])": "F.logsigmoid(logits)"},
        "Exit probabilities",
    ),
    Mutant(
        "the entropy of exits added to the loss",
        "training.loops:stage_one",
        {"losses + ": "losses - "},
        "Stage I loss",
    ),
    Mutant(
        "the gate learns to leave where it should stay",
        "training.loops:stage_two",
        {"-exits[1:]": "exits[1:]"},
        "Stage II loss",
    ),
    Mutant(
        "the gate judged by the improvement that comes next",
        "training.loops:stage_two",
        {"exits[1:]": "exits[:-1]"},
        "Stage II loss",
    ),
]
