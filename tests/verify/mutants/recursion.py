"""Wrong implementations that rows of "Recursion" notice."""

from tests.verify.mutate import Mutant

NO_GRAD = {"with torch.no_grad():": "if True:"}

MUTANTS = [
    Mutant(
        "weights not cast: everything in fp32",
        "layers.linear:Linear.forward",
        {"F.linear(x, self.weight.to(x.dtype), bias)": "F.linear(x.float(), self.weight, bias)"},
        "Forward dtype",
    ),
    Mutant(
        "norm of deviations from the mean",
        "layers.norm:rms_norm",
        {"wide.square().mean(-1, keepdim=True)": "wide.var(-1, keepdim=True, correction=0)"},
        "Post-norm blocks",
    ),
    Mutant(
        "attention in bf16 at its end",
        "layers.attention:Attention.forward",
        {
            "self.o_proj(attended.transpose(1, 2).flatten(2))": (
                "self.o_proj(attended.transpose(1, 2).flatten(2).bfloat16()).to(x.dtype)"
            )
        },
        "fp32 and float64",
        "TRM",
    ),
    Mutant(
        "pre-norm",
        "models.recursive:Block.forward",
        {
            "h = rms_norm(h + self.self_attn(h, rotary), self.eps)": (
                "h = h + self.self_attn(rms_norm(h, self.eps), rotary)"
            ),
            "return rms_norm(h + self.mlp(h), self.eps)": (
                "return h + self.mlp(rms_norm(h, self.eps))"
            ),
        },
        "Post-norm blocks",
        "TRM",
    ),
    Mutant(
        "norm over channels in mlp_t",
        "models.trm:MixerBlock.forward",
        {
            "h = rms_norm(h + self.mlp_t(h), self.eps)\n    h = h.transpose(1, 2)": (
                "h = rms_norm((h + self.mlp_t(h)).transpose(1, 2), self.eps)"
            )
        },
        "Post-norm blocks",
        "TRM-MLP",
    ),
    Mutant(
        "injection before every layer",
        "models.recursive:ReasoningModule.forward",
        {
            "hidden = hidden + injection": "pass",
            "layer(hidden, rotary)": "layer(hidden + injection, rotary)",
        },
        "Post-norm blocks",
        "HRM",
    ),
    Mutant(
        "embedding scale missing",
        "models.recursive:RecursiveModel.embed",
        {"config.hidden_size**0.5 * x": "x"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "positions added without 1/√2",
        "models.recursive:RecursiveModel.embed",
        {"0.5**0.5 * (x": "1.0 * (x"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "prefix not scaled",
        "models.recursive:RecursiveModel.embed",
        {
            "self.embed_puzzle(puzzle_ids, puzzle_rows)": (
                "config.hidden_size**-0.5 * self.embed_puzzle(puzzle_ids, puzzle_rows)"
            )
        },
        "Token and puzzle embedding",
    ),
    Mutant(
        "puzzle row at the end of its tokens",
        "models.recursive:RecursiveModel.embed_puzzle",
        {"(0, padding)": "(padding, 0)"},
        "Token and puzzle embedding",
    ),
    Mutant(
        "one prefix token whatever the settings",
        "models.recursive_config:RecursiveConfig.prefix_len",
        {"self.puzzle_emb_len or ": "1 if self.puzzle_emb_len else "},
        "Prefix tokens",
    ),
    Mutant(
        "trainable initial state",
        "models.recursive:RecursiveModel.__init__",
        {
            'self.register_buffer("H_init", torch.empty(dim, dtype=config.dtype), persistent=fixed)'
            "": "self.H_init = nn.Parameter(torch.empty(dim, dtype=config.dtype))"
        },
        "Initial states are buffers",
    ),
    Mutant(
        "initial state not saved",
        "models.recursive:RecursiveModel.__init__",
        {
            '"L_init", torch.empty(dim, dtype=config.dtype), persistent=fixed': (
                '"L_init", torch.empty(dim, dtype=config.dtype), persistent=False'
            )
        },
        "Initial states are buffers",
    ),
    Mutant(
        "another initial state at every position",
        "models.recursive:RecursiveModel.initial_state",
        {
            "self.H_init.expand(shape)": (
                "self.H_init * torch.arange(shape[1])[:, None].expand(shape).to(self.H_init)"
            )
        },
        "Initial states",
    ),
    Mutant(
        "initial states of std 1/√dim",
        "models.recursive:RecursiveModel.reset_parameters",
        {"self.L_init, std=1.0": "self.L_init, std=self.config.hidden_size**-0.5"},
        "Initial states at the start",
    ),
    Mutant(
        "q bias -5 missing",
        "models.recursive:RecursiveModel.reset_parameters",
        {"Q_HEAD_BIAS": "0.0"},
        "Start of the q head",
    ),
    Mutant(
        "random q weights",
        "models.recursive:RecursiveModel.reset_parameters",
        {"nn.init.zeros_(self.q_head.weight)": "pass"},
        "Start of the q head",
    ),
    Mutant(
        "random puzzle rows",
        "models.recursive:RecursiveModel.reset_parameters",
        {"nn.init.zeros_(self.puzzle_emb.weights)": "nn.init.normal_(self.puzzle_emb.weights)"},
        "Puzzle rows at the start",
    ),
    Mutant(
        "q read at the last position",
        "models.recursive:RecursiveModel.read_out",
        {"z_H[:, 0]": "z_H[:, -1]"},
        "H and L cycles",
    ),
    Mutant(
        "logits from the first positions, prefix included",
        "models.recursive:RecursiveModel.read_out",
        {"z_H[:, self.config.prefix_len :]": "z_H[:, : self.config.seq_len]"},
        "H and L cycles",
    ),
    Mutant(
        "all cycles of TRM with gradient",
        "models.recursive:RecursiveModel.forward",
        NO_GRAD,
        "Gradient of a step",
        "TRM",
    ),
    Mutant(
        "no gradient but in TRM's last call for z_L and z_H",
        "models.trm:TRM.refine",
        {"self.L_level(z_L, z_H + x": "self.L_level(z_L.detach(), z_H.detach() + x"},
        "Gradient of a step",
        "TRM-MLP",
    ),
    Mutant(
        "the question forgotten in TRM's z_L",
        "models.trm:TRM.refine",
        {"z_H + x": "z_H"},
        "H and L cycles",
        "TRM",
    ),
    Mutant(
        "the question in TRM's z_H too",
        "models.trm:TRM.refine",
        {"self.L_level(z_H, z_L, self.rotary)": "self.L_level(z_H, z_L + x, self.rotary)"},
        "H and L cycles",
        "TRM",
    ),
    Mutant(
        "damping of TRM's z_L alone",
        "models.trm:TRM.refine",
        {"relax(z_H, ": "(lambda h, u: u)(z_H, "},
        "Damping (EqR)",
        "TRM",
    ),
    Mutant(
        "damping of HRM's z_L in the last call alone",
        "models.hrm:HRM.refine",
        {
            "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n": (
                "            z_L = self.L_level(z_L, z_H + x, self.rotary)\n"
            )
        },
        "Damping (EqR)",
        "HRM",
    ),
    Mutant(
        "the same noise for every puzzle",
        "layers.relaxation:Relaxation.draw",
        {"torch.randn(like.shape, ": "torch.randn(like[:1].shape, "},
        "Noise (EqR)",
    ),
    Mutant(
        "random starts that are the same at every position",
        "models.recursive:RecursiveModel.initial_state",
        {
            "truncated_normal_(z, std=1.0, generator=generator)": (
                "truncated_normal_(z[:, :1], std=1.0, generator=generator).expand(shape)"
            )
        },
        "Random starts (EqR)",
        "TRM",
    ),
    Mutant(
        "one H cycle too few",
        "models.recursive:RecursiveModel.forward",
        {"self.cycles.H) - 1": "self.cycles.H) - 2"},
        "Calls with gradient",
        "TRM",
    ),
    Mutant(
        "all calls of HRM's last cycle with gradient",
        "models.hrm:HRM.refine",
        NO_GRAD,
        "Gradient of a step",
        "HRM",
    ),
    Mutant(
        "both levels of HRM by one module",
        "models.hrm:HRM.refine",
        {"self.H_level(z_H": "self.L_level(z_H"},
        "H and L cycles",
        "HRM",
    ),
    Mutant(
        "HRM's z_H after every z_L",
        "models.hrm:HRM.refine",
        {
            "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n": (
                "            z_L = relax(z_L, self.L_level(z_L, z_H + x, self.rotary))\n"
                "            z_H = self.H_level(z_H, z_L, self.rotary)\n"
            )
        },
        "Calls with gradient",
        "HRM",
    ),
    Mutant(
        "no detach between steps",
        "models.recursive:State.detach",
        {"State(self.z_H.detach(), self.z_L.detach())": "self"},
        "Detached between steps",
    ),
    Mutant(
        "a bias in the head of the answer",
        "models.recursive:RecursiveModel.__init__",
        {"Linear(dim, config.vocab_size)": "Linear(dim, config.vocab_size, bias=True)"},
        "Number of parameters",
    ),
]
