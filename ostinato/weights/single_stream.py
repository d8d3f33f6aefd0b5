"""A nanochat whose streams are all the same, as one with a single stream."""

from dataclasses import replace

import torch

from ostinato.layers import HyperConnection
from ostinato.models.nanochat import Block, NanoChat


def streams_alike(model: NanoChat) -> bool:
    """Whether all streams are the same whatever the text, so that one would do.

    They start as copies, mixing keeps equal streams as they are, and each takes in the same if all
    h_post are equal: here their logits, to the bit.
    """
    for module in model.modules():
        if isinstance(module, HyperConnection):
            bias, map_ = module.post.bias, module.post.map
            if not (bias == bias[0]).all() or (map_ is not None and map_.any()):
                return False
    return True


@torch.no_grad()
def single_stream(model: NanoChat) -> NanoChat:
    """The packed model with one stream that computes the same: itself, packed, if it has one.

    The last matrix of each sub-layer takes over h_post, a number. h_pre, and the number of streams
    that are summed in the end, only scale what a norm reads, which takes it out again, but for its
    epsilon: whoever uses the result has to compare.
    """
    model = model.packed()
    if model.config.num_streams == 1:
        return model
    assert streams_alike(model)
    state = {n: t for n, t in model.state_dict().items() if "_connection." not in n}
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        for part, connection in (
            ("attention.o_proj", block.attention_connection),
            ("feedforward.down_proj", block.feedforward_connection),
        ):
            assert isinstance(connection, HyperConnection)
            name = f"blocks.{index}.{part}."
            scaled = name + ("scales" if f"{name}scales" in state else "weight")
            state[scaled] = state[scaled] * post_of(connection, model.config.hidden_size)
    single = NanoChat(replace(model.config, num_streams=1)).packed().eval().requires_grad_(False)
    single.load_state_dict(state)
    single.tokenizer_json = model.tokenizer_json
    return single.to(model.embed_tokens.weight.device)


def post_of(connection: HyperConnection, dim: int) -> float:
    """h_post of a connection for which it is one number, whatever the streams."""
    device = connection.post.bias.device
    streams = torch.zeros(1, 1, connection.num_streams, dim, device=device)
    return connection.mixing(streams).post.flatten()[0].item()
