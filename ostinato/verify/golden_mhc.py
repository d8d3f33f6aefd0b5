"""`ostinato verify --golden` for a hyper-connection recorded from the code of mHC-lite's paper."""

from collections.abc import Callable

import torch
from torch import Tensor

from ostinato.layers import HyperConnection
from ostinato.verify.comparison import PRECISIONS, Comparison, Recording, Tally

OUTPUTS = ("branch_input", "branch_output", "streams_out")


def verify_mhc(golden: Recording, metadata: dict[str, str]) -> list[Comparison]:
    """Compare outputs, gradients and initial values of a `dynamic` connection.

    Raises ValueError if a tensor is missing, unknown or mis-shaped.
    """
    num_streams, dim, index = (int(metadata[k]) for k in ("num_streams", "dim", "layer_index"))
    connection = HyperConnection(dim, num_streams, "dynamic", index)
    connection.reset_parameters()
    ours = {f"init/{k}": v for k, v in by_official_name(connection, value_of).items()}
    ours |= replay(connection, golden)
    read = {key for key in golden if key.startswith("param/")}
    read |= {"streams_in", "branch_weight", "loss_weight"}
    if unknown := golden.keys() - ours.keys() - read:
        raise ValueError(f"{min(unknown)} ({len(unknown)} such tensors) has no counterpart here")

    tallies: dict[str, Tally] = {}
    for key, value in ours.items():
        kind = {"init": "initial values", "grad": "gradients"}.get(key.split("/")[0], "outputs")
        recorded = golden[key].to(torch.float64)
        if recorded.shape != value.shape:
            raise ValueError(f"{key} has shape {list(recorded.shape)}, not {list(value.shape)}")
        apart = (recorded - value).abs().flatten()
        if kind == "gradients":
            apart /= recorded.abs().max().clamp(min=1e-6)
        # A single layer does not amplify rounding, so there is no floor
        tallies.setdefault(kind, Tally(kind, PRECISIONS["float32"])).add(key, apart, 0.0)
    return [tally.comparison() for tally in tallies.values()]


def replay(connection: HyperConnection, golden: Recording) -> dict[str, Tensor]:
    """Compute our outputs and gradients by key of the file, from its parameters and inputs."""
    load(connection, golden)
    streams = golden["streams_in"].clone().requires_grad_()
    weight = golden["branch_weight"].clone().requires_grad_()
    seen: dict[str, Tensor] = {}

    def branch(x: Tensor) -> Tensor:
        seen["branch_input"] = x
        seen["branch_output"] = torch.tanh(x @ weight.T)
        return seen["branch_output"]

    seen["streams_out"] = connection(streams, branch)
    (seen["streams_out"] * golden["loss_weight"]).sum().backward()
    gradients = by_official_name(connection, gradient_of)
    gradients |= {"streams_in": gradient_of(streams), "branch_weight": gradient_of(weight)}
    outputs = {name: seen[name].detach() for name in OUTPUTS}
    return outputs | {f"grad/{name}": gradient for name, gradient in gradients.items()}


def value_of(parameter: Tensor) -> Tensor:
    """Return a copy without gradient."""
    return parameter.detach().clone()


def gradient_of(tensor: Tensor) -> Tensor:
    """Return the gradient, which must exist."""
    assert tensor.grad is not None
    return tensor.grad


def by_official_name(
    connection: HyperConnection, read: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return `read` of each parameter, its value or gradient, under the paper's code's names."""
    pre, post, mix, norm = connection.pre, connection.post, connection.permutations, connection.norm
    assert norm is not None and pre.gain is not None and pre.map is not None
    assert post.gain is not None and post.map is not None
    assert mix.gain is not None and mix.map is not None
    # Their norm multiplies by 1 + gamma
    gamma = read(norm.weight) - (1 if read is value_of else 0)
    return {
        "static_alpha": torch.cat([read(pre.bias), read(mix.bias)]),
        "dynamic_alpha_fn": torch.cat([read(pre.map), read(mix.map)]).T,
        "static_beta": read(post.bias),
        "dynamic_beta_fn": read(post.map).T,
        "pre_branch_scale": read(pre.gain)[None],
        "residual_scale": read(mix.gain)[None],
        "h_post_scale": read(post.gain),
        "norm.gamma": gamma,
    }


def load(connection: HyperConnection, golden: Recording) -> None:
    """Take the parameters of a file."""
    num_streams = connection.num_streams
    for part, which, scale in (
        ("pre", slice(None, num_streams), "pre_branch_scale"),
        ("permutations", slice(num_streams, None), "residual_scale"),
        ("post", slice(None), "h_post_scale"),
    ):
        letter = "beta" if part == "post" else "alpha"
        connection.get_submodule(part).load_state_dict(
            {
                "bias": golden[f"param/static_{letter}"][which],
                "map": golden[f"param/dynamic_{letter}_fn"][:, which].T,
                "gain": golden[f"param/{scale}"].squeeze(),
            }
        )
    connection.get_submodule("norm").load_state_dict({"weight": 1 + golden["param/norm.gamma"]})
