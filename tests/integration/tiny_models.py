"""Language models of transformers with random weights and a tokenizer trained on the spot, built offline."""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

VOCAB = 600


def tokenizer(vocab_size: int = VOCAB) -> Any:
    """Byte-level BPE over words of random letters; the first two tokens end a text and pad it."""
    generator = torch.Generator().manual_seed(5)
    letters = torch.randint(97, 123, (4000, 4), generator=generator).tolist()
    text = " ".join("".join(map(chr, word)) for word in letters)
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<end>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>", pad_token="<pad>")


def model(vocab_size: int = VOCAB, layers: int = 1, seed: int = 1) -> Any:
    """A decoder of one layer and 32 dimensions. Its logits are spread enough that temperature and top-k matter."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=1,
    )
    made = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(20)
    return made


def encoder_decoder(vocab_size: int = VOCAB) -> Any:
    """A T5 of one layer, whose outputs do not hold the prompt."""
    torch.manual_seed(2)
    config = transformers.T5Config(
        vocab_size=vocab_size,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        pad_token_id=1,
        eos_token_id=None,
        decoder_start_token_id=1,
    )
    return transformers.T5ForConditionalGeneration(config).eval()
