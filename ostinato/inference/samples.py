"""Continue the same prompts now and then while a model learns, to see what it can do."""

from collections.abc import Sequence

from ostinato.data.text.template import Message, prompt_tokens
from ostinato.data.text.tokenizer import BytePairTokenizer
from ostinato.inference.generate import check_prompt, generate
from ostinato.inference.sampling import Sampling
from ostinato.models.nanochat import NanoChat

SAMPLING = Sampling(temperature=0.6, top_k=50)
MAX_TOKENS = 40


class Samples:
    """Hold prompts, as questions if the model has learnt conversations."""

    def __init__(self, model: NanoChat, tokenizer: BytePairTokenizer, texts: Sequence[str]):
        """Raise ValueError for a prompt that the model cannot continue."""
        self.tokenizer = tokenizer
        self.prompts: dict[str, list[int]] = {}
        for text in texts:
            if model.chat_template:
                tokens = prompt_tokens(tokenizer, [Message("user", text)])
            else:
                tokens = tokenizer.encode(text)
            check_prompt(model, tokens)
            self.prompts[text] = tokens

    def write(self, model: NanoChat) -> list[str]:
        """Continue each prompt, always with the same seed; one line for each."""
        if not self.prompts:
            return []
        packed = model.packed().eval()
        found = []
        for text, tokens in self.prompts.items():
            written = generate(packed, tokens, self.tokenizer, SAMPLING, MAX_TOKENS)
            found.append(f"{text!r}: {''.join(piece.text for piece in written)!r}")
        model.train()
        return found
