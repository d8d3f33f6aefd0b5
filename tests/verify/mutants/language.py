"""Wrong implementations that rows of "Language model" notice."""

from tests.verify.mutate import Mutant

MUTANTS = [
    Mutant(
        "rounding of torch",
        "layers.ternary:round_half_away",
        {"whole = x.trunc()\n    return whole + (2 * (x - whole)).trunc()": "return x.round()"},
        "Rounding",
    ),
    Mutant(
        "scale from the largest weight",
        "layers.ternary:ternarize",
        {"groups.abs().mean(-1)": "groups.abs().amax(-1)"},
        "Ternary weights",
    ),
    Mutant(
        "one scale for a row in place of its groups",
        "layers.ternary:ternarize",
        {"weight.unflatten(1, (-1, group_size))": "weight.unflatten(1, (1, -1))"},
        "Ternary weights",
    ),
    Mutant(
        "a scale for each row where one is for all",
        "layers.ternary:ternarize",
        {"weight.abs().mean().view(1, 1)": "weight.abs().mean(1, keepdim=True)"},
        "Ternary weights",
    ),
    Mutant(
        "activations in 128 levels",
        "layers.ternary:quantize_activations",
        {"largest / ACTIVATION_LEVELS": "largest / (ACTIVATION_LEVELS + 1)"},
        "int8 activations",
    ),
    Mutant(
        "one scale for all tokens",
        "layers.ternary:quantize_activations",
        {"groups.abs().amax(-1, keepdim=True)": "groups.abs().amax() + 0 * groups[..., :1]"},
        "int8 activations",
    ),
    Mutant(
        "no gradient where weights are quantised",
        "layers.ternary:straight_through",
        {"quantized.detach() + (x - x.detach())": "quantized.detach() + 0 * x"},
        "Straight-through gradients",
    ),
    Mutant(
        "gradient of the shadow weights, not the ternary ones",
        "layers.ternary:straight_through",
        {"quantized.detach() + (x - x.detach())": "x"},
        "Straight-through gradients",
    ),
    Mutant(
        "integers quantised once more for inference",
        "layers.ternary:TernaryLinear.pack",
        {"self.ternary(), self": "ternarize(self.ternary().weight(), self.group_size), self"},
        "Packed matrices",
    ),
    Mutant(
        "scales of the first group for all parts",
        "layers.ternary:PackedTernaryLinear.integer_product",
        {
            "self.scales.T.repeat_interleave(": (
                "self.scales.T[[0]].repeat_interleave(len(self.scales.T) * "
            )
        },
        "Packed matrices",
    ),
    Mutant(
        "mixing before the output is taken in",
        "layers.hyper_connections:HyperConnection.forward",
        {'self.mode == "dynamic"': "True"},
        "Residual streams (mHC-lite)",
        "static",
    ),
    Mutant(
        "static rule for dynamic streams",
        "layers.hyper_connections:HyperConnection.forward",
        {'self.mode == "dynamic"': "False"},
        "Residual streams (mHC-lite)",
        "dynamic",
    ),
    Mutant(
        "H transposed",
        "layers.hyper_connections:HyperConnection.forward",
        {"wide = matrix.mT @ wide + taken_in": "wide = matrix @ wide + taken_in"},
        "Residual streams (mHC-lite)",
        "dynamic",
    ),
    Mutant(
        "what is written at most n in every mode",
        "layers.hyper_connections:HyperConnection.mixing",
        {'self.num_streams if self.mode == "legacy" else 2': "self.num_streams"},
        "Residual streams (mHC-lite)",
        "static",
    ),
    Mutant(
        "maps without their gain",
        "layers.hyper_connections:Logits.forward",
        {"self.gain * F": "F"},
        "Residual streams (mHC-lite)",
        "dynamic",
    ),
    Mutant(
        "permutations weighted by sigmoids",
        "layers.hyper_connections:HyperConnection.mixing",
        {"self.permutations(normed).softmax(-1)": "self.permutations(normed).sigmoid()"},
        "Mixing of streams",
    ),
    Mutant(
        "streams equal at the start",
        "layers.hyper_connections:HyperConnection.reset_parameters",
        {"self.index % self.num_streams": ":"},
        "Streams at the start",
        "static",
    ),
    Mutant(
        "every sub-layer on the first stream",
        "layers.hyper_connections:HyperConnection.reset_parameters",
        {"self.index % self.num_streams": "0"},
        "Streams at the start",
        "dynamic",
    ),
    Mutant(
        "key heads shared in turn",
        "layers.causal_attention:CausalAttention.forward",
        {
            "attended = F": (
                "many = self.num_heads // self.num_kv_heads\n"
                "    k, v = (x.repeat(1, many, 1, 1) for x in (k, v))\n"
                "    attended = F"
            )
        },
        "nanochat",
        "static",
    ),
    Mutant(
        "sub-layers without their norm",
        "models.nanochat:Block.sublayers",
        {"self.feedforward(self.feedforward_norm(x))": "self.feedforward(x)"},
        "nanochat",
        "one stream",
    ),
    Mutant(
        "streams averaged in every mode",
        "layers.hyper_connections:collapse",
        {'streams.mean(-2) if mode == "legacy" else streams.sum(-2)': "streams.mean(-2)"},
        "Streams at the end",
        "dynamic",
    ),
    Mutant(
        "a head of its own that is not used",
        "models.nanochat:NanoChat.read_out",
        {"if self.lm_head is not None": "if False"},
        "nanochat",
        "dynamic",
    ),
    Mutant(
        "cached text counted from 0 again",
        "layers.causal_attention:KeyValueCache.angles",
        {"slice(self.length, self.length + new)": "slice(0, new)"},
        "Training and inference",
    ),
    Mutant(
        "activations as they are in packed layers",
        "layers.ternary:PackedTernaryLinear.__init__",
        {"self.quantize_activations = quantize_activations": "self.quantize_activations = False"},
        "Training and inference",
        "static",
    ),
    Mutant(
        "embeddings of std 1 for a tied head",
        "models.nanochat:NanoChat.__init__",
        {"WEIGHT_STD, config.dtype": "1.0, config.dtype"},
        "Loss at the start",
    ),
]
