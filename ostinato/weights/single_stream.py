"""Turn a nanochat whose streams are all equal into one with a single stream."""

from dataclasses import replace

import torch

from ostinato.layers import HyperConnection
from ostinato.models.nanochat import Block, NanoChat


def streams_alike(model: NanoChat) -> bool:
    """Return whether all streams are equal for every text, so that one stream suffices.

    The streams start as copies, mixing leaves equal streams unchanged, and each receives the same
    update if all h_post are equal. Here the logits of h_post are compared, to the bit.
    """
    for module in model.modules():
        if isinstance(module, HyperConnection):
            bias, map_ = module.post.bias, module.post.map
            if not (bias == bias[0]).all() or (map_ is not None and map_.any()):
                return False
    return True


@torch.no_grad()
def single_stream(model: NanoChat) -> NanoChat:
    """Return the packed model with one stream that computes the same.

    A model that has one stream is only packed. h_post, a number, is multiplied into the last
    matrix of each sub-layer. h_pre and the number of streams that are summed at the end only scale
    the input of a norm, which removes the scale except for its epsilon, so the caller has to
    compare the result.
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
    single.tokenizer_json, single.chat_template = model.tokenizer_json, model.chat_template
    return single.to(model.embed_tokens.weight.device)


def post_of(connection: HyperConnection, dim: int) -> float:
    """Return h_post of a connection where it is one number for all streams."""
    device = connection.post.bias.device
    streams = torch.zeros(1, 1, connection.num_streams, dim, device=device)
    return connection.mixing(streams).post.flatten()[0].item()
