"""Hugging Face's weights, in and out: a name table for each family, readable in both directions.

gpt2     GPT-2, GPT-1                            t5       T5, T5 1.1, mT5
llama    LLaMA 1 to 3, Mistral, Qwen 2, Qwen 3   bart     BART, Marian
bert     BERT, RoBERTa                           clip     CLIP, SigLIP
                                                 vit      ViT

read, write   a folder with config.json and tensors; runs are made of it by `runs.py`
"""

from research.hf.folder import FAMILIES, Imported, read, write

__all__ = ["FAMILIES", "Imported", "read", "write"]
