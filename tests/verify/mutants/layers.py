"""Wrong implementations that rows of "Layers" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "both densities at the upper bound",
        "layers.initialization:truncated_normal_",
        {"lower_density = math.exp(-0.5 * lower**2)": "lower_density = math.exp(-0.5 * upper**2)"},
        "Truncated normal, asymmetric",
    ),
    Mutant(
        "std before the cut, as torch has it",
        "layers.initialization:truncated_normal_",
        {"sigma = std / math.sqrt(variance)": "sigma = std"},
        "Truncated normal",
    ),
    Mutant(
        "linear weights of std 0.02",
        "layers.linear:Linear.reset_parameters",
        {"self.weight.shape[1] ** -0.5": "0.02"},
        "Linear layers at the start",
    ),
    Mutant(
        "embeddings of std 1",
        "layers.embedding:Embedding.reset_parameters",
        {"std=self.std": "std=1.0"},
        "Embeddings at the start",
    ),
    Mutant(
        "weights in fp32, rounded in the result alone",
        "layers.linear:Linear.forward",
        {
            "F.linear(x, self.weight.to(x.dtype), bias)": (
                "F.linear(x.float(), self.weight, self.bias).to(x.dtype)"
            )
        },
        "Linear layers cast",
    ),
    Mutant(
        "embeddings in fp32",
        "layers.embedding:Embedding.forward",
        {"self.weight.to(self.dtype)": "self.weight"},
        "Embeddings cast",
    ),
    Mutant(
        "norm without epsilon",
        "layers.norm:rms_norm",
        {" + eps": ""},
        "RMSNorm",
    ),
    Mutant(
        "norm in bf16",
        "layers.norm:rms_norm",
        {"x.to(torch.promote_types(x.dtype, torch.float32))": "x"},
        "RMSNorm in fp32",
    ),
    Mutant(
        "gate and up swapped",
        "layers.feedforward:SwiGLU.forward",
        {"gate, up =": "up, gate ="},
        "SwiGLU",
    ),
    Mutant(
        "width not rounded before it is rounded up",
        "layers.feedforward:swiglu_width",
        {
            "-(-max(1, round(expansion * dim * 2 / 3)) // INNER_MULTIPLE)": (
                "int(expansion * dim / 384)"
            )
        },
        "SwiGLU width",
    ),
    Mutant(
        "half rotation with the other sign",
        "layers.rotary:rotate_half",
        {"[-second, first]": "[second, -first]"},
        "rotate_half",
    ),
    Mutant(
        "rotation of adjacent pairs",
        "layers.rotary:rotate_half",
        {
            "first, second = x.chunk(2, dim=-1)": "first, second = x[..., ::2], x[..., 1::2]",
            "torch.cat([-second, first], dim=-1)": "torch.stack([-second, first], -1).flatten(-2)",
        },
        "Rotary angles",
    ),
    Mutant(
        "angles of twice as many frequencies",
        "layers.rotary:RotaryEmbedding.__init__",
        {"/ head_dim)": "/ (2 * head_dim))"},
        "Rotary angles",
    ),
    Mutant(
        "rotation in bf16",
        "layers.rotary:apply_rotary",
        {
            "wide = x.to(torch.promote_types(x.dtype, torch.float32))": (
                "wide, cos, sin = x, cos.to(x.dtype), sin.to(x.dtype)"
            )
        },
        "Rotary positions in fp32",
    ),
    Mutant(
        "rotary tables saved",
        "layers.rotary:RotaryEmbedding.__init__",
        {'"cos", angles.cos(), persistent=False': '"cos", angles.cos()'},
        "Rotary tables",
    ),
    Mutant(
        "causal attention",
        "layers.attention:Attention.forward",
        {"v.transpose(1, 2)\n": "v.transpose(1, 2), is_causal=True\n"},
        "Attention",
    ),
    Mutant(
        "keys not rotated",
        "layers.attention:Attention.forward",
        {"k = apply_rotary(k, rotary.cos, rotary.sin)": "pass"},
        "Attention",
    ),
]
